"""Follows events through an expression, to see which of their fields it reads.

It reads CEL's grammar once more, from the words, since the `cel` module keeps its syntax tree to
itself. Whatever could tell an event with fewer fields from a whole one counts as reading all of it:
comparing events, asking for their size, indexing them by what is computed, passing them on to
functions. So too much may be found, never too little.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from libs.expressions.reads import (
    EVERYTHING,
    FACT,
    PLAIN,
    Reads,
    Shape,
    all_read,
    fields_read,
    together,
)
from libs.expressions.tokens import Word, words_of

_COMPARING: Final = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})
_PLACED: Final[Mapping[str, tuple[str, ...]]] = {
    "distance_km": ("location",),
    "speed_kmh": ("location", "at"),
}
"""The functions that take events, with the fields that they look at."""

_MACROS: Final = frozenset({"all", "exists", "exists_one", "filter", "map"})


class Followed(NamedTuple):
    """What an expression does with events.

    Attributes:
        reads: What it reads of those of each variable.
        gives: What of them is in its value.
    """

    reads: Mapping[str, Reads]
    gives: Shape


def follow(source: str, shapes: Mapping[str, Shape]) -> Followed:
    """Return what an expression reads of events.

    Args:
        source: An expression that compiles.
        shapes: The variables that are events or hold some; all others hold none.
    """
    reader = _Reader(source, shapes)
    try:
        gives = reader.expression()
        reader.take("")
    except _LostError:
        origins = frozenset().union(*(shape.origins for shape in shapes.values()))
        return Followed(dict.fromkeys(origins, EVERYTHING), PLAIN)
    return Followed(together(reader.found), gives)


class _LostError(Exception):
    """The words are not what this grammar expects."""


class _Value(NamedTuple):
    """A part of an expression: its shape, and what it says if it is a text that is written out."""

    shape: Shape
    text: str | None = None


_PLAIN: Final = _Value(PLAIN)


class _Reader:
    """Reads an expression by recursive descent, one method for each level of the grammar."""

    def __init__(self, source: str, shapes: Mapping[str, Shape]) -> None:
        self.found: list[Mapping[str, Reads]] = []
        self._words = [*words_of(source), Word("sign", "", len(source))]
        self._at = 0
        self._shapes = dict(shapes)

    def expression(self) -> Shape:
        return self._choice().shape

    def take(self, text: str) -> None:
        if not self._took(text):
            raise _LostError

    def _next(self) -> Word:
        return self._words[self._at]

    def _took(self, *texts: str) -> bool:
        if self._next().text not in texts:
            return False
        self._at += 1
        return True

    def _name(self) -> str:
        word = self._next()
        if word.kind != "name":
            raise _LostError
        self._at += 1
        return word.text

    def _all(self, *values: _Value | Shape) -> _Value:
        for value in values:
            self.found.append(all_read(value.shape if isinstance(value, _Value) else value))
        return _PLAIN

    def _joined(self, *values: _Value) -> _Value:
        """Return a value that is one of these."""
        shapes = [value.shape for value in values if value.shape.kind]
        if len({(shape.kind, shape.lists) for shape in shapes}) != 1:
            return self._all(*shapes)
        origins = frozenset().union(*(shape.origins for shape in shapes))
        return _Value(Shape(shapes[0].kind, shapes[0].lists, origins))

    def _choice(self) -> _Value:
        value, results = self._logical(), list[_Value]()
        while self._took("?"):
            self._all(value)
            results.append(self._logical())
            self.take(":")
            value = self._logical()
        return self._joined(*results, value) if results else value

    def _logical(self) -> _Value:
        value = self._relation()
        while self._took("&&", "||"):
            value = self._all(value, self._relation())
        return value

    def _relation(self) -> _Value:
        value = self._sum()
        while (word := self._next()).text in _COMPARING:
            self._at += 1
            right = self._sum()
            if word.text == "in" and value.text is not None and not right.shape.lists:
                value = self._field(right, value.text, gives=_PLAIN)
            else:
                value = self._all(value, right)
        return value

    def _sum(self) -> _Value:
        value = self._product()
        while (sign := self._next().text) in ("+", "-"):
            self._at += 1
            right = self._product()
            lists = all(one.shape.lists or not one.shape.kind for one in (value, right))
            both = self._joined if sign == "+" and lists else self._all
            value = both(value, right)
        return value

    def _product(self) -> _Value:
        value = self._unary()
        while self._took("*", "/", "%"):
            value = self._all(value, self._unary())
        return value

    def _unary(self) -> _Value:
        changed = False
        while self._took("!", "-"):
            changed = True
        value = self._member()
        return self._all(value) if changed else value

    def _member(self) -> _Value:
        value = self._primary()
        while True:
            if self._took("."):
                name = self._name()
                value = self._method(value, name) if self._took("(") else self._field(value, name)
            elif self._took("["):
                value = self._element(value, self._choice())
                self.take("]")
            else:
                return value

    def _primary(self) -> _Value:
        word = self._next()
        if self._took("("):
            value = self._choice()
            self.take(")")
            return value
        if self._took("["):
            return _Value(self._joined(*self._values("]")).shape.within(1))
        if self._took("{"):
            return self._all(*self._values("}", ":"))
        if word.kind == "sign":
            raise _LostError
        self._at += 1
        if word.kind == "name":
            if self._took("("):
                return self._call(word.text, self._values(")"))
            return _Value(self._shapes.get(word.text, PLAIN))
        return _Value(PLAIN, _said(word.text) if word.kind == "text" else None)

    def _values(self, closing: str, *between: str) -> list[_Value]:
        values = []
        while not self._took(closing):
            values.append(self._choice())
            if not self._took(",", *between) and self._next().text != closing:
                raise _LostError
        return values

    def _field(self, value: _Value, name: str, gives: _Value | None = None) -> _Value:
        """Read a field, or ask whether it is there; nothing else of the value matters then."""
        shape = value.shape
        self.found.append(fields_read(shape, (name,)))
        if gives is None and shape.kind == "event" and not shape.lists and name == FACT:
            return _Value(Shape(FACT, 0, shape.origins))
        return gives or _PLAIN

    def _element(self, value: _Value, index: _Value) -> _Value:
        self._all(index)
        if value.shape.lists:
            return _Value(value.shape.within(-1))
        if not value.shape.kind:
            return _PLAIN
        return self._all(value) if index.text is None else self._field(value, index.text)

    def _method(self, value: _Value, name: str) -> _Value:
        if name not in _MACROS:
            return self._call(name, [value, *self._values(")")])
        lists = value.shape.lists > 0
        if not lists:
            self._all(value)  # it goes through the names of its fields
        element = self._name()
        self.take(",")
        hidden = self._shapes.get(element)
        self._shapes[element] = value.shape.within(-1) if lists else PLAIN
        *conditions, last = self._values(")")
        self._shapes[element] = hidden or PLAIN
        self._all(*conditions)
        if name == "map":
            return _Value(last.shape.within(1))
        self._all(last)
        return value if name == "filter" and lists else _PLAIN

    def _call(self, name: str, arguments: list[_Value]) -> _Value:
        if name in _PLACED:
            for argument in arguments:
                self.found.append(fields_read(argument.shape, _PLACED[name]))
        elif name == "size":
            self._all(*(one for one in arguments if not one.shape.lists))
        elif name != "has":
            self._all(*arguments)
        return _PLAIN


def _said(text: str) -> str | None:
    """Return what a text says; None if there is more to do than to take off its quotes."""
    quote = text[:3] if text[:3] in ("'''", '"""') and len(text) > 5 else text[:1]
    if quote[0] not in "'\"" or "\\" in text:
        return None
    return text[len(quote) : -len(quote)]
