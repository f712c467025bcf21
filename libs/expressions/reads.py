"""What expressions read of events: to hand them the rest costs most of what evaluating costs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal

FACT: Final = "fact"
Kind = Literal["", "event", "fact"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What of an event a value may be or hold.

    Attributes:
        kind: An event, its fact as a whole, or empty: neither, and nothing that holds one.
        lists: In how many lists, one in the other.
        origins: The variables whose events they may be.
    """

    kind: Kind = ""
    lists: int = 0
    origins: frozenset[str] = frozenset()

    def within(self, lists: int) -> "Shape":
        """Return the shape of what is so many lists further out, or inwards if it is negative."""
        return replace(self, lists=self.lists + lists) if self.kind else self


PLAIN: Final = Shape()
"""What has nothing of an event that can be left out: what an event's fields hold, for one."""

EVENTS: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "event": Shape("event", 0, frozenset({"event"})),
        "recent": Shape("event", 1, frozenset({"recent"})),
    }
)
"""The variables that are events wherever they are known."""


@dataclass(frozen=True, slots=True)
class Reads:
    """The fields of an event that are read.

    Attributes:
        fields: Their names; None: any may be.
        fact: The names of those of its fact; None: any may be.
    """

    fields: frozenset[str] | None
    fact: frozenset[str] | None

    def of(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return these fields of an event as expressions see it; what is not there is left out."""
        if self.fields is None:
            return value
        kept = {name: value[name] for name in self.fields if name in value}
        if self.fact is not None and FACT in kept:
            fact = kept[FACT]
            kept[FACT] = {name: fact[name] for name in self.fact if name in fact}
        return kept

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(_both(self.fields, other.fields), _both(self.fact, other.fact))


NOTHING: Final = Reads(frozenset(), frozenset())
EVERYTHING: Final = Reads(None, None)


def fields_read(shape: Shape, names: Iterable[str]) -> Mapping[str, Reads]:
    """Return that fields of a value are read, by the variables that it may come from."""
    wanted = frozenset(names)
    if shape.lists or not shape.kind:
        return {}
    reads = Reads(wanted, NOTHING.fact)
    if shape.kind == FACT:
        reads = Reads(frozenset({FACT}), wanted)
    return dict.fromkeys(shape.origins, reads)


def all_read(shape: Shape) -> Mapping[str, Reads]:
    """Return that everything in a value is read, by the variables that it may come from."""
    fact = Reads(frozenset({FACT}), None)
    return dict.fromkeys(shape.origins, fact if shape.kind == FACT else EVERYTHING)


def together(reads: Iterable[Mapping[str, Reads]]) -> dict[str, Reads]:
    """Return all that is read, by variable."""
    found: dict[str, Reads] = {}
    for one in reads:
        for name, read in one.items():
            found[name] = found[name] | read if name in found else read
    return found


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other
