"""Full-text search: what a text's words are, and how both engines are asked for them.

The text is taken apart here, not by the engine, and stored as ASCII words. So MariaDB's FULLTEXT
and SQLite's FTS5 index the same and find the same, whatever their minimal lengths, stop words and
collations are, and nothing that somebody types can be an operator of theirs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, and_, bindparam, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

#: What `words_of` makes of a text. Another number has every listing made anew (`listings.refresh`).
VERSION = 2
#: Longest word; both engines index longer ones than this.
_LONGEST = 80
# What stands before each word, so that the shortest one is long enough for any server's minimum,
# and none is a stop word. Words of the name are stored a second time, behind another sign. A search
# without a word looks for the last, which nothing has.
_WORD, _NAMED, _NO_WORD = "aaa", "nnn", "zzz"
_ASCII_WORD = re.compile("[a-z0-9]+")
# Alphabets that put no space between words: each letter is a word.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "BOPOMOFO", "YI")


def folded(text: str) -> str:
    """Lower case, without accents, in compatible spelling: what counts as the same letter."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in apart if not unicodedata.combining(letter)).casefold()


def split(text: str) -> list[str]:
    """The words of a text: runs of letters and digits, and single signs such as emoji."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return list(_words_in(folded(text)))


def _words_in(text: str) -> Iterator[str]:
    run = ""
    for letter in text:
        if letter.isalnum() and not _stands_alone(letter):
            run += letter
            continue
        if run:
            yield run
        run = ""
        if letter.isalnum() or unicodedata.category(letter) == "So":
            yield letter
    if run:
        yield run


def _stands_alone(letter: str) -> bool:
    return letter > "\u0e00" and unicodedata.name(letter, "").startswith(_UNSPACED)


def _spelt(word: str) -> str:
    """ASCII letters and digits for any word, so that beginnings stay beginnings."""
    # Five digits for each letter of other alphabets; `z` keeps them apart from words with digits.
    spelling = word if word.isascii() else "z" + "".join(f"{ord(letter):05x}" for letter in word)
    return spelling[:_LONGEST]


def words_of(texts: Iterable[str], name: str = "") -> str:
    """The words of some texts, and of a name as it is listed, each once, by spaces."""
    words = {_WORD + _spelt(word) for word in set[str]().union(*map(split, texts))}
    return " ".join(sorted(words | {_NAMED + _spelt(word) for word in name.split()}))


class Search:
    """What somebody looks for: all of its words, the last one perhaps not typed to its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = split(text)
        #: The words as they are stored, and as those of a name are.
        self.terms = [_WORD + _spelt(word) for word in self.words]
        self.named_terms = [_NAMED + _spelt(word) for word in self.words]

    @property
    def values(self) -> dict[str, Any]:
        """Values of parameters: `word_...` are for `in_name`, `term_...` for `in_words`."""
        values: dict[str, Any] = {"whole": " ".join(self.words)}
        for n in range(len(self.words)):
            begun = n == len(self.words) - 1
            values[f"word_{n}"] = f" {self.words[n]}{'' if begun else ' '}"
            values[f"term_{n}"] = f" {self.terms[n]}{'' if begun else ' '}"
        # SKUs have their case; people seldom type it.
        return values | {"sku": self.text, "upper_sku": self.text.upper()}

    def looked_up(self, terms: Sequence[str], chosen: Iterable[int] = ()) -> str:
        """What `matches` looks for: all terms, or only those with the chosen numbers."""
        last = len(terms) - 1
        # Both engines take `*` behind the beginning of a word; the plus is MariaDB's own.
        parts = (f"+{terms[n]}{'*' * (n == last)}" for n in chosen or range(len(terms)))
        return " ".join(parts) or f"+{_NO_WORD}"


def in_name(name: Any, words: int) -> ColumnElement[bool]:
    """Whether all of so many words are in a name that is stored as `split` words, by spaces."""
    return _holds(name, [f"word_{n}" for n in range(words)])


def in_words(column: Any, words: int) -> ColumnElement[bool]:
    """Whether all of so many words are in a text of `words_of`: as `matches`, row by row."""
    return _holds(column, [f"term_{n}" for n in range(words)])


def _holds(column: Any, parameters: Sequence[str]) -> ColumnElement[bool]:
    found = (bindparam(name, type_=String()) for name in parameters)
    return and_(true(), *(place_of(column, word) > 0 for word in found))


class place_of(FunctionElement[int]):  # noqa: N801 (used like SQLAlchemy's functions)
    """Where a text is in another one between spaces, from 1; 0 when it is not."""

    type = Integer()
    inherit_cache = True
    name = "place_of"


@compiles(place_of, "mysql")
@compiles(place_of, "mariadb")
def _place_of_bytes(element: Any, compiler: Any, **kw: Any) -> str:
    text, word = (compiler.process(part, **kw) for part in element.clauses)
    # Comparing letters takes these engines several times as long as comparing bytes.
    return f"INSTR(CAST(CONCAT(' ', {text}, ' ') AS BINARY), {word})"


@compiles(place_of, "sqlite")
def _place_of(element: Any, compiler: Any, **kw: Any) -> str:
    text, word = (compiler.process(part, **kw) for part in element.clauses)
    return f"instr(' ' || {text} || ' ', {word})"


class matches(FunctionElement[int]):  # noqa: N801 (used like SQLAlchemy's functions)
    """1 when a row of `product_listings` has all the words of a parameter, else 0."""

    # Not a Boolean: what is compared with 1 finds no full-text index.
    type = Integer()
    inherit_cache = True
    name = "matches"


@compiles(matches, "mysql")
@compiles(matches, "mariadb")
def _match_against(element: Any, compiler: Any, **kw: Any) -> str:
    column, words = element.clauses
    column, words = compiler.process(column, **kw), compiler.process(words, **kw)
    return f"(MATCH ({column}) AGAINST ({words} IN BOOLEAN MODE) > 0)"


@compiles(matches, "sqlite")
def _match_fts5(element: Any, compiler: Any, **kw: Any) -> str:
    words = compiler.process(list(element.clauses)[1], **kw)
    return (
        "(product_listings.product_id IN (SELECT rowid FROM product_search"  # noqa: S608 (bound)
        f" WHERE product_search MATCH replace({words}, '+', '')))"
    )
