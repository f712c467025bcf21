"""What conditions read of an event: handing them the rest costs most of what evaluating costs."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

# `event`, its field and that one's, as in `event.fact.status`; what is called is no field.
_FIELD: Final = r"(?:\s*\.\s*(\w+)\b(?!\s*\())?"
_EVENT: Final = re.compile(rf"\bevent\b{_FIELD}{_FIELD}")
_FACT: Final = "fact"


@dataclass(frozen=True, slots=True)
class Needs:
    """The fields that conditions read.

    Attributes:
        event: Fields of the event value, apart from its fact.
        fact: Fields of its fact; None: all.
    """

    event: frozenset[str]
    fact: frozenset[str] | None

    def of(self, value: Mapping[str, Any]) -> dict[str, object]:
        """Return these fields of an event value."""
        needed = {name: value[name] for name in self.event if name in value}
        fact = value[_FACT]
        names: Collection[str] = fact if self.fact is None else self.fact
        needed[_FACT] = {name: fact[name] for name in names if name in fact}
        return needed


def needs_of(sources: Iterable[str]) -> Needs | None:
    """Return what some conditions read, rather too much than too little; None for everything.

    Args:
        sources: Expressions over `event` that compile.
    """
    event, fact, whole_fact = set[str](), set[str](), False
    for source in sources:
        for field, inner in _EVENT.findall(source):
            if not field:
                return None  # the event as a whole, as in an argument of a function
            if field != _FACT:
                event.add(field)
            elif inner:
                fact.add(inner)
            else:
                whole_fact = True
    return Needs(frozenset(event), None if whole_fact else frozenset(fact))
