"""An inventor of plausible demo products and people.

Everything here is pure: no database, no web framework and no clock.  Each idea depends only on the
seed and on its own running number, so two consecutive ranges continue each other without a gap and
without a collision.  The brands, authors and people are made up.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product as combinations
from math import prod
from random import Random
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class VariantIdea:
    """One sellable version of an invented product; the name is empty when it is the only one."""

    sku: str
    name: str
    price_amount: int
    stock: int


@dataclass(frozen=True, slots=True)
class ProductIdea:
    """An invented product with one to six variants; prices are in minor units."""

    name: str
    slug: str
    description: str
    status: str
    attributes: dict[str, str]
    variants: tuple[VariantIdea, ...]


@dataclass(frozen=True, slots=True)
class PersonIdea:
    """An invented customer whose address lies in a domain reserved for examples."""

    name: str
    email: str


class _Word(NamedTuple):
    """A label with its detail (a phrase or SKU part) and its price, or factor on the price."""

    label: str
    detail: str
    weight: float


def _split(text: str) -> tuple[str, ...]:
    """Split a table cell; one string per cell keeps the vocabulary short enough to read."""
    return tuple(text.split("|"))


def _read(text: str) -> tuple[_Word, ...]:
    """Read words written "label:detail:weight", where the weight is 1 unless given."""
    cells = (f"{cell}::".split(":") for cell in text.split("|"))
    return tuple(_Word(label, detail, float(weight or 1)) for label, detail, weight, *_ in cells)


# The tables below are laid out by hand because a formatter would give every word its own line.
# fmt: off
_PATTERNS = _split(
    "{brand} {style} {stuff} {noun}|{brand} {style} {stuff} {noun}|{brand} {stuff} {noun}|"
    "{style} {stuff} {noun}|{brand} {style} {noun}|{stuff} {noun}")
_OPENINGS = _split(
    "{brand} makes {this} {noun} from {stuff}.|{This} {noun} by {brand} {is} made of {stuff}.|"
    "Made from {stuff}, {this} {noun} {is} designed for years of use.|"
    "Simple lines and {stuff} give {this} {noun} a quiet character.|"
    "{This} {noun} {is} made in small batches from {stuff}.")
_MADE_IN = _split("Portugal|Italy|Denmark|Lithuania|Germany|Scotland|Japan|India|Poland|Spain")


class _Family(NamedTuple):
    """What things are made of (or about), with the sentences that hold for all of it."""

    fact: str
    stuffs: tuple[_Word, ...]
    cares: tuple[str, ...]
    openings: tuple[str, ...] = _OPENINGS
    patterns: tuple[str, ...] = _PATTERNS
    extra: tuple[str, tuple[str, ...]] = ("made_in", _MADE_IN)


_WOOL = _Family("material", _read(
    "Merino:fine merino wool:1.2|Lambswool:brushed lambswool|Cashmere:two-ply cashmere:1.9|"
    "Alpaca:soft alpaca wool:1.3|Mohair:airy brushed mohair:1.2|Recycled Wool:recycled wool:0.9"),
    _split("Hand wash cool and dry flat, away from direct heat.|Air {it} often and wash rarely."))
_CLOTH = _Family("material", _read(
    "Linen:washed European linen:1.2|Organic Cotton:organic cotton|Corduroy:fine-ribbed corduroy|"
    "Flannel:brushed cotton flannel|Hemp:a soft hemp blend:1.1|Twill:sturdy cotton twill:0.9"),
    _split("Machine wash at 30 °C with similar colours.|Wash inside out and hang to dry."))
_HIDE = _Family("material", _read(
    "Leather:full-grain leather:1.1|Suede:soft calf suede|Nubuck:water-repellent nubuck|"
    "Waxed Leather:pull-up waxed leather:1.2|Saddle Leather:vegetable-tanned saddle leather:1.3"),
    _split("Brush off dry dirt and feed the leather twice a year.|Small marks are no defect."))
_WOOD = _Family("material", _read(
    "Oak:solid European oak:1.1|Walnut:solid walnut:1.4|Ash:pale solid ash|Beech:solid beech:0.9|"
    "Birch:Nordic birch:0.9|Maple:smooth maple|Cherry:warm cherry wood:1.2"),
    _split("Wipe clean with a damp cloth.|Grain and colour vary a little from piece to piece."))
_SEATING = _Family("material", _read(
    "Bouclé:wool bouclé:1.1|Velvet:heavy cotton velvet|Linen:a hard-wearing linen weave|"
    "Leather:aniline leather:1.5|Corduroy:wide-wale corduroy|Wool Felt:dense wool felt:1.1"),
    _split("Vacuum with a soft brush now and then.|Dab spills at once with a dry, clean cloth."))
_METAL = _Family("material", _read(
    "Cast Iron:seasoned cast iron|Copper:hand-polished copper:1.7|Carbon Steel:carbon steel:0.9|"
    "Stainless Steel:brushed stainless steel|Enamelled Steel:enamelled steel:0.8"),
    _split("Wash by hand and dry at once.|Avoid scouring pads so that the surface stays smooth."))
_CLAY = _Family("material", _read(
    "Stoneware:glazed stoneware|Porcelain:fine white porcelain:1.2|Terracotta:terracotta:0.8|"
    "Earthenware:soft earthenware|Speckled Clay:hand-thrown speckled clay:1.1"),
    _split("Clean with warm, soapy water.|Glaze and shape vary a little from piece to piece."))
_GLOW = _Family("material", _read(
    "Brass:brushed brass:1.3|Opal Glass:mouth-blown opal glass:1.2|Rattan:hand-woven rattan|"
    "Smoked Glass:smoked glass:1.1|Ceramic:matt ceramic|Washi Paper:folded washi paper:0.8"),
    _split("Dust with a soft, dry cloth.|Let {it} cool down before cleaning."))
_PAPER = _Family("material", _read(
    "Linen-Bound:smooth paper bound in linen|Kraft:recycled kraft paper:0.8|"
    "Cotton Paper:heavy cotton paper:1.3|Clothbound:cream paper bound in cloth:1.1"),
    _split("The sewn binding lies flat on the desk.|Fountain pen ink does not bleed through."))
_SHELL = _Family("material", _read(
    "Ripstop:recycled ripstop nylon|Waxed Canvas:waxed cotton canvas:1.2|"
    "Softshell:light stretch softshell:1.1|Recycled Nylon:recycled nylon:0.9"),
    _split("Sponge clean and reproof once a season.|Spare buckles and patches are available."))
_CORD = _Family("material", _read(
    "Braided:braided recycled nylon|Cotton-Covered:copper under woven cotton:1.2|"
    "Silicone:soft, tangle-free silicone|Recycled:recycled plastic:0.9"),
    _split("Coil {it} loosely and avoid sharp bends.|Comes with a two-year guarantee."))
_COFFEE = _Family("origin", _read(
    "Ethiopian:beans from the highlands of Ethiopia:1.2|Colombian:washed beans from Colombia|"
    "Guatemalan:beans from volcanic slopes in Guatemala:1.1|Kenyan:bright beans from Kenya:1.2"),
    _split("Grind just before brewing and store in a cool, dry place.|Best within eight weeks."),
    _split("{brand} roasts {stuff} slowly in small drums.|{This} {noun} starts with {stuff}."),
    extra=("roast", _split("light|medium|medium dark|dark")))
_TEA = _Family("flavour", _read(
    "Jasmine:jasmine blossom:1.1|Bergamot:oil of bergamot|Rose:rose petals:1.1|Ginger:dried ginger|"
    "Lemon Verbena:lemon verbena|Crème Vanille:bourbon vanilla:1.2"),
    _split("Steep for three minutes in water just off the boil.|Keep away from light and heat."),
    _split("{brand} scents {this} {noun} with {stuff}.|Whole leaves and {stuff} make {this} {noun} "
           "fragrant without any bitterness."), extra=("harvest", _split("spring|summer|autumn")))
_SUBJECT = _Family("subject", _read(
    "Alpine Flowers:the flowers of the high Alps|Sourdough:baking with wild yeast|"
    "Lighthouses:lighthouses and their keepers|Night Trains:crossing Europe by sleeper train|"
    "Café Culture:two centuries of coffee houses|Northern Birds:the birds of the far north|"
    "Small Gardens:growing much in little space|Wild Swimming:lakes, rivers and cold water|"
    "Old Maps:maps, their makers and their errors|Mushrooms:the mushrooms of forest and field"),
    _split("Printed on uncoated paper with a sewn binding.|Includes an index and a reading list."),
    _split("{brand} presents a warm and well-researched book about {stuff}.|"
           "This is an inviting introduction to {stuff}, richly illustrated throughout."),
    _split("{noun} {stuff}|{noun} {stuff}: {style} Edition"), ("author",
     _split("Mirela Osgood|Ida Brennick|Zoë Hallgarth|Søren Vester|Amélie Courvant|Leo Ferreby")))

_LINES = _split("Ångström|Alma|Clara|Edda|Elin|Falk|Greta|Hedda|Ines|Juno|Karla|Linnea|Mika|Nora|"
                "Otis|Piet|Runa|Thea|Ulla|Vera|Wren|Zoë|Tilda|Hollis|Marit|Solveig|Anouk|Ebbe")
_MOODS = _split("Everyday|Classic|Studio|Harbour|Meadow|Sunday|Weekend|Heritage|Fjord|Atelier")
_WILD = _split("Alpine|Ridge|Summit|Trail|Tundra|Basecamp|Drift|Moorland|Glacier|Coastal")
_GENTLE = _split("Morning|Sunny|Rainbow|Forest|Happy|Harvest|Moonlight|Meadow|Sunrise|Hillside")
# Each department has its price ending (minor units below the round price), brands and styles.
_DEPARTMENTS = {
    "Clothing": (5, _split("Harrow & Finch|Lindholt|Saltmere|Marlowe Row|Tovik"), _MOODS),
    "Shoes": (5, _split("Brackenfoot|Trevano Due|Morrow Lane|Kleine Größe"), _MOODS),
    "Kitchen": (10, _split("Copperwick|Brasero Nueve|Tamsin & Oak|Maison Aubélie"), _MOODS),
    "Furniture": (10, _split("Nordvik|Ångholm|Elderwright|Bramstad|Hollow & Beam"), _LINES),
    "Lighting": (10, _split("Lumenfjord|Glimmerholt|Kandelo|Dusk & Filament"), _LINES),
    "Stationery": (5, _split("Foxpaper|Tidewrack|Pilcrow Lane|Blotter & Quill"), _MOODS),
    "Books": (5, _split("Paper Heron Press|Tidewrack Editions|Pilcrow Lane Books"), _MOODS),
    "Outdoor": (5, _split("Cairnfell|Tindhaug|Rookridge|Skarvøy|Fernpeak"), _WILD),
    "Toys": (10, _split("Pippelin|Woodlekin|Little Ottery|Bärchenwald"), _GENTLE),
    "Electronics": (5, _split("Voltalune|Ohmstead|Tessarin|Wattbury"), _MOODS),
    "Coffee & Tea": (10, _split("Kestrel & Kettle|Montelo|Ahorn & Söhne|Brewmarrow"), _GENTLE),
    "Home Textiles": (5, _split("Linnenholt|Vaskerud|Maren & Tide|Cottonmere"), _LINES),
}
#: Names of the departments; each product has one as an attribute.
DEPARTMENTS = frozenset(_DEPARTMENTS)
# A kind is a department, nouns with their usual price, a family, option axes, and uses.
_KINDS = tuple((place, _read(nouns), family, tuple(axes.split()), _split(uses))
               for place, nouns, family, axes, uses in (
    ("Clothing", "Crew Sweater::79|Cardigan::89|Roll-Neck Sweater::85|Knitted Vest::65", _WOOL,
     "colour size", "Layer {it} under a coat or over a shirt.|The ribbed hem keeps its shape."),
    ("Clothing", "Shirt::59|Overshirt::85|Wide-Leg Trousers::79|Work Jacket::119|Midi Skirt::69",
     _CLOTH, "colour size", "The cut is relaxed and easy to move in.|Pair {it} with a knit."),
    ("Clothing", "Beanie::25|Scarf::45|Gloves::32|Ribbed Socks::16|Headband::19", _WOOL, "colour",
     "The yarn is soft against the skin.|Wear {it} on the first cold mornings of the year."),
    ("Shoes", "Chelsea Boots::169|Desert Boots::139|Loafers::129|Derby Shoes::159", _HIDE,
     "eu_size", "Any cobbler can renew the sole.|The padded insole is comfortable from day one."),
    ("Shoes", "Sneakers::79|Slip-Ons::65|House Slippers::45|Plimsolls::55", _CLOTH, "eu_size",
     "The natural rubber sole grips well on wet streets.|Take them along: they weigh very little."),
    ("Kitchen", "Frying Pan::59|Saucepan::55|Casserole::119|Sauté Pan::79|Crêpe Pan::45", _METAL,
     "diameter", "Heat spreads evenly right up to the rim.|Take {it} straight from hob to table."),
    ("Kitchen", "Café au Lait Bowl::16|Mug::14|Dinner Plate::18|Serving Platter::39|Teapot::49",
     _CLAY, "glaze", "Mix and match {it} with the rest of the series.|Bring {it} out for brunch."),
    ("Kitchen", "Chopping Board::39|Rolling Pin::19|Salad Servers::24|Spice Mill::34", _WOOD, "",
     "Give {it} to anyone who loves to cook.|The surface is sanded and oiled by hand."),
    ("Furniture", "Side Table::189|Stool::129|Wall Shelf::89|Dining Table::990|Sideboard::1190|"
     "Bookcase::690|Writing Desk::640|Hall Bench::279", _WOOD, "finish",
     "Rounded edges and hidden joints keep the shape light.|Assemble {it} in ten minutes."),
    ("Furniture", "Armchair::690|Two-Seat Sofa::1290|Lounge Chair::790|Footstool::249", _SEATING,
     "colour", "The beech frame is glued and dowelled by hand.|Place {it} by a window and read."),
    ("Lighting", "Pendant Lamp::149|Table Lamp::99|Floor Lamp::219|Wall Lamp::89", _GLOW, "format",
     "It takes a standard E27 bulb of up to 40 W.|Dim {it} for a warm light without glare."),
    ("Books", "A Field Guide to::24|A Short History of::19|The Little Book of::14|Notes on::17|"
     "The Joy of::18|A Year of::22|An Anthology of::27", _SUBJECT, "cover",
     "Keep {it} on the bedside table.|Short chapters make {it} ideal for a train ride."),
    ("Stationery", "Notebook::16|Journal::19|Sketchbook::22|Travel Diary::24", _PAPER, "ruling",
     "Fill {it} with lists, plans and half-finished ideas.|A back pocket holds loose notes."),
    ("Outdoor", "Daypack::95|Rucksack::139|Roll-Top Bag::110|Hip Pack::45", _SHELL, "colour",
     "Padded straps carry the weight comfortably.|Every pocket closes tight in a downpour."),
    ("Outdoor", "Rain Jacket::159|Windbreaker::119|Hiking Trousers::99|Anorak::139", _SHELL,
     "colour size", "Wear {it} over a warm layer.|Pack {it} small and forget the weather report."),
    ("Toys", "Building Set::34|Pull-Along Duck::24|Shape Sorter::29|Marble Run::69|Train Set::59",
     _WOOD, "", "Rounded edges are kind to small hands.|Open-ended play trains patience."),
    ("Toys", "Teddy Bear::32|Sleepy Fox::28|Floppy Rabbit::26|Hand Puppet::22", _CLOTH, "format",
     "Bring {it} along on naps and journeys.|The eyes are embroidered and safe from birth."),
    ("Electronics", "USB-C Cable::17|Charging Cable::15|Extension Lead::29|Audio Cable::19", _CORD,
     "length", "Reinforced ends survive daily plugging.|A small strap keeps the desk tidy."),
    ("Electronics", "Phone Stand::29|Laptop Stand::69|Headphone Stand::49|Monitor Riser::89", _WOOD,
     "", "Use {it} to clear the desk.|A cork base keeps {it} firmly in place."),
    ("Coffee & Tea", "Espresso Roast::9|Filter Coffee::9|Breakfast Blend::8|Café Crème::8", _COFFEE,
     "weight", "Expect chocolate, ripe fruit and a long finish.|Brew {it} in a moka pot."),
    ("Coffee & Tea", "Green Tea::8|Black Tea::7|White Tea::11|Oolong::12", _TEA, "tin_weight",
     "Enjoy {it} hot in the afternoon or iced in summer.|The leaves allow a second infusion."),
    ("Home Textiles", "Throw::89|Blanket::99|Cushion Cover::39|Bed Runner::69", _WOOL, "colour",
     "Drape {it} over a sofa or a bed.|The edges are finished by hand.")))
# The values of an option, each with its SKU part and its factor on the price.
_AXES = {
    "colour": _read("Black:BLK|Navy:NVY|Ecru:ECR|Moss:MOS|Rust:RST|Red:RED|Ochre:OCH|Sand:SND"),
    "size": _read("XS:XS|S:S|M:M|L:L|XL:XL"), "format": _read("Small:S:0.8|Medium:M|Large:L:1.4"),
    "eu_size": _read("EU 37:37|EU 38:38|EU 39:39|EU 40:40|EU 41:41|EU 42:42|EU 43:43|EU 44:44"),
    "glaze": _read("Chalk:CHK|Sea Blue:SEA|Sage:SAG|Charcoal:CHA|Blush:BLU"),
    "finish": _read("Natural Oil:NAT|Black Stain:BLK|White Oil:WHT|Clear Lacquer:CLR"),
    "cover": _read("Paperback:PB|Hardcover:HC:1.5|Large Print:LP:1.7"),
    "ruling": _read("Lined:LIN|Dotted:DOT|Plain:PLN|Squared:SQR"),
    "length": _read("0.5 m:05M:0.85|1 m:1M|2 m:2M:1.3|3 m:3M:1.6"),
    "diameter": _read("20 cm:20|24 cm:24:1.2|28 cm:28:1.45"),
    "weight": _read("250 g:250G|500 g:500G:1.85|1 kg:1KG:3.4"),
    "tin_weight": _read("50 g:50G|100 g:100G:1.8|250 g:250G:4"),
}
_UNORDERED_AXES = frozenset({"colour", "glaze", "finish", "ruling"})
# How many values of each option are offered; clothes rarely come without any choice.
_GRIDS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((),),
    ((1,),) * 9 + ((2,),) * 6 + ((3,),) * 3 + ((4,), (6,)),
    ((1, 1), (1, 2), (1, 2), (1, 3), (1, 3), (1, 4), (2, 2), (2, 3), (3, 2)))
_FIRST_NAMES = _split(
    "Anna|Zoë|Søren|Łukasz|François|Jürgen|Amara|Kofi|Mei|Hiroshi|Priya|Arjun|Fatima|Omar|Lucía|"
    "Mateo|Ingrid|Lars|Chloé|Noah|Emma|Oliver|Sofia|Elena|Marek|Björn|Aisling|Owen|Yara|Tariq")
_LAST_NAMES = _split(
    "Lindqvist|Okafor|Müller|García|Nowak|Rossi|Dubois|Tanaka|Sharma|Haddad|Jensen|O'Brien|Novák|"
    "Silva|Bergström|Mensah|Chen|Petrov|Öztürk|Larsen|Moreau|Fischer|Walker|Hughes|Costa|Virtanen")
_PROPER_WORDS = frozenset({"Chelsea", "Derby", "USB-C"})
_ONE = {"this": "this", "This": "This", "it": "it", "is": "is"}
_MANY = {"this": "these", "This": "These", "it": "them", "is": "are"}
# Decomposition alone would drop these letters, so each is spelled out.
_SPELLED = str.maketrans({"ß": "ss", "ø": "o", "æ": "ae", "ł": "l", "&": "and", "'": ""})
# fmt: on


def _slug(text: str) -> str:
    """Spell a text with ASCII letters, digits and hyphens only."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(_SPELLED))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")


@cache
def _sku_prefix(stuff: str, noun: str) -> str:
    """Shorten a material and a noun: an oak side table becomes "OAK-TBL"."""
    word = [part for part in _slug(noun).upper().split("-") if len(part) > 2][-1]
    consonants = re.sub(r"(.)\1+", r"\1", word[0] + re.sub("[AEIOU]", "", word[1:]))
    code = (consonants if len(consonants) > 2 else word)[:3]
    return f"{_slug(stuff)[:3].upper()}-{code}"


def _retail(amount: float, below: int) -> int:
    """Round an amount in major units to a price that a shop would print on a label."""
    step = 1 if amount < 20 else 5 if amount < 100 else 10 if amount < 400 else 50
    return max(step, round(amount / step) * step) * 100 - (below if amount < 100 else 100)


def _offered(dice: Random, axis: str, width: int) -> tuple[_Word, ...]:
    """Pick values of one option; sizes stay neighbours because gaps in a run look like errors."""
    values = _AXES[axis]
    if axis in _UNORDERED_AXES:
        return tuple(dice.sample(values, min(width, len(values))))
    first = dice.randint(0, max(0, len(values) - width))
    return values[first : first + width]


def _variant(prefix: str, row: tuple[_Word, ...], price: int, dice: Random) -> VariantIdea:
    """Invent one variant; about one in twenty is sold out."""
    sku = "-".join((prefix, *(word.detail for word in row)))
    stock = 0 if dice.random() < 0.05 else 1 + int(200 * dice.random() ** 2)
    return VariantIdea(sku, " / ".join(word.label for word in row), price, stock)


def _describe(family: _Family, uses: tuple[str, ...], parts: dict[str, str], dice: Random) -> str:
    """Write two or three sentences that agree in number with the noun."""
    sentences = [dice.choice(family.openings), dice.choice(uses)]
    if dice.random() < 0.6:
        sentences.append(dice.choice(family.cares))
    words = (word if word in _PROPER_WORDS else word.lower() for word in parts["noun"].split())
    grammar = _MANY if parts["noun"].endswith("s") else _ONE
    return " ".join(sentences).format(**{**parts, **grammar, "noun": " ".join(words)})


def _product(seed: int, number: int) -> ProductIdea:
    """Invent the product with this running number."""
    dice = Random(f"product/{seed}/{number}")
    department, nouns, family, axes, uses = dice.choice(_KINDS)
    below, brands, styles = _DEPARTMENTS[department]
    noun, stuff, brand = dice.choice(nouns), dice.choice(family.stuffs), dice.choice(brands)
    parts = {"brand": brand, "noun": noun.label, "stuff": stuff.label, "style": dice.choice(styles)}
    name = dice.choice(family.patterns).format(**parts)
    widths = dice.choice(_GRIDS[len(axes)])
    rows = tuple(combinations(*(_offered(dice, *pair) for pair in zip(axes, widths, strict=True))))
    facts = {"department": department, "brand": brand, family.fact: stuff.label}
    facts[family.extra[0]] = dice.choice(family.extra[1])
    if len(rows) == 1:  # An option without a choice is a fact about the product.
        facts |= {axis: word.label for axis, word in zip(axes, rows[0], strict=True)}
    base = noun.weight * stuff.weight * dice.uniform(0.8, 1.3)
    prices = [_retail(base * prod(word.weight for word in row), below) for row in rows]
    prefix = f"{_sku_prefix(stuff.label, noun.label)}-{number:06d}"
    named = rows if len(rows) > 1 else ((),)
    variants = tuple(_variant(prefix, *pair, dice) for pair in zip(named, prices, strict=True))
    description = _describe(family, uses, parts | {"stuff": stuff.detail}, dice)
    status = dice.choice(("active",) * 47 + ("draft", "draft", "archived"))
    return ProductIdea(name, f"{_slug(name)}-{number}", description, status, facts, variants)


def invent_products(count: int, seed: int = 1, start: int = 0) -> Iterator[ProductIdea]:
    """Invent products number `start` to `start + count - 1`; the same answer for the same seed."""
    return (_product(seed, number) for number in range(start, start + count))


def _person(seed: int, number: int) -> PersonIdea:
    """Invent the person with this running number, which also makes the address unique."""
    dice = Random(f"person/{seed}/{number}")
    first, last = dice.choice(_FIRST_NAMES), dice.choice(_LAST_NAMES)
    mailbox = f"{_slug(first)}.{_slug(last)}{number}@example."
    return PersonIdea(f"{first} {last}", mailbox + dice.choice(("com", "org", "net")))


def invent_people(count: int, seed: int = 1, start: int = 0) -> Iterator[PersonIdea]:
    """Invent people number `start` to `start + count - 1`; the same answer for the same seed."""
    return (_person(seed, number) for number in range(start, start + count))
