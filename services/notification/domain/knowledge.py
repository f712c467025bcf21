"""What is known of a customer, as expressions see it, from the events that say so.

The last word by (occurred_at, event_id) counts, whatever the order in which events arrive.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from libs.consents import CONSENT, Word, standing
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import Channel, ConsentStatus

EVERY: Final = "every"
"""What a consent for every channel is called."""


def attributes_in(events: Iterable[Event]) -> dict[str, str]:
    """Return the customer's attributes by name; an empty value has removed one."""
    known: dict[str, str] = {}
    for event in _in_order(events, "traits_observed"):
        known.update(event.traits_observed.traits)
    return {name: value for name, value in known.items() if value}


def consents_in(
    words: Iterable[Word], identity_keys: Collection[bytes]
) -> dict[str, dict[str, str]]:
    """Return what the customer allows: by purpose, by channel or EVERY, `granted` or `withdrawn`.

    It is what the profile service answers; see libs.consents.
    """
    known: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for one in standing(words, identity_keys, CONSENT):
        channel = _name(Channel.Name(one.channel)) if one.channel else EVERY
        status = ConsentStatus.Name(one.status)  # type: ignore[arg-type]  # of a consent it is one
        known[one.purpose][channel] = _name(status)
    return dict(known)


def scores_in(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Return the level that each of the customer's scores crossed into last, and its value then."""
    known: dict[str, dict[str, Any]] = {}
    for event in _in_order(events, "score_crossed"):
        crossed = event.score_crossed
        known[crossed.model] = {"value": crossed.score, "level": crossed.to_level}
    return known


def _in_order(events: Iterable[Event], fact: str) -> Sequence[Event]:
    told = [event for event in events if event.WhichOneof("fact") == fact]
    return sorted(told, key=lambda event: (event.occurred_at.ToNanoseconds(), event.event_id))


def _name(constant: str) -> str:
    """Return an enum's value as expressions write it."""
    for prefix in ("CONSENT_STATUS_", "CHANNEL_"):
        constant = constant.removeprefix(prefix)
    return constant.lower()
