"""Full-text search: what a text's words are, and how both engines are asked for them.

The text is taken apart here, not by the engine, and stored as ASCII words. So MariaDB's FULLTEXT
and SQLite's FTS5 index the same and find the same, whatever their minimal lengths, stop words and
collations are, and nothing that somebody types can be an operator of theirs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Integer, String, and_, bindparam, func, literal, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

#: What `words_of` makes of a text. Another number has every listing made anew (`listings.refresh`).
VERSION = 1
#: Longest word; both engines index longer ones than this.
_LONGEST = 80
# What stands before each word, so that the shortest one is long enough for any server's minimum,
# and none is a stop word. A search without a word looks for the other, which nothing has.
_WORD, _NO_WORD = "aaa", "zzz"
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


def words_of(texts: Iterable[str]) -> str:
    """The words of some texts, each once, by spaces."""
    words = set[str]().union(*map(split, texts))
    return " ".join(sorted({_WORD + _spelt(word) for word in words}))


class Search:
    """What somebody looks for: all of its words, the last one perhaps not typed to its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = split(text)

    @property
    def values(self) -> dict[str, Any]:
        """Values of parameters: `anywhere` is for `matches`, `whole` and `word_...` for names."""
        words = [f" {word} " for word in self.words]
        values: dict[str, Any] = {f"word_{n}": word for n, word in enumerate(words)}
        if words:
            values[f"word_{len(words) - 1}"] = words[-1].rstrip()
        values |= {"anywhere": self._anywhere, "whole": " ".join(self.words)}
        # SKUs have their case; people seldom type it.
        return values | {"sku": self.text, "upper_sku": self.text.upper()}

    @property
    def _anywhere(self) -> str:
        if not self.words:
            return f"+{_NO_WORD}"
        # Both engines take `*` behind the beginning of a word; the plus is MariaDB's own.
        return " ".join(f"+{_WORD}{_spelt(word)}" for word in self.words) + "*"


def in_name(name: Any, words: int) -> ColumnElement[bool]:
    """Whether all of so many words are in a name that is stored as `split` words, by spaces."""
    padded = literal(" ").concat(name).concat(" ")
    found = (bindparam(f"word_{n}", type_=String()) for n in range(words))
    return and_(true(), *(func.instr(padded, word) > 0 for word in found))


class matches(FunctionElement[int]):  # noqa: N801 (used like SQLAlchemy's functions)
    """1 when a row of `product_listings` has all the words of a parameter, else 0."""

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
