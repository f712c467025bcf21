"""A line of a timeline before it is laid out, and what lines need to know of each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from libs.cli.rendering import palette, words
from touchline.events.v1 import event_pb2 as ev
from touchline.profile.v1 import profile_pb2 as profiles


@dataclass(frozen=True, slots=True)
class Line:
    """One event in words.

    Attributes:
        symbol: One cell that says what sort of event it is.
        style: The colour of symbol and label.
        label: The channel or the sort of event, at most 10 characters.
        who: Who acted.
        whom: Whom it reached. Empty: nobody in particular.
        headline: What happened. Empty: the text says it.
        headline_style: The headline's colour.
        details: Short remarks with their styles.
        text: What was said.
    """

    symbol: str
    style: str
    label: str
    who: str = ""
    whom: str = ""
    headline: str = ""
    headline_style: str = palette.STRONG
    details: tuple[tuple[str, str], ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the lines of one timeline need to know of each other.

    Attributes:
        now: The present, in the reader's time zone.
        name: What the customer is called.
        events: The events by id.
        promises: The promises by expectation; who tells how one ended is often another source.
        ends: The last outcome of each promise.
        retracted: Ids of events that no longer count.
    """

    now: datetime
    name: str
    events: dict[str, ev.Event] = field(default_factory=dict)
    promises: dict[str, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    retracted: frozenset[str] = frozenset()


def surroundings(
    entries: Sequence[profiles.TimelineEntry], *, now: datetime, name: str
) -> Surroundings:
    """Reads from entries, newest first, what their lines need to know of each other."""
    events = [entry.event for entry in reversed(entries) if not entry.erased]
    promises, ends, retracted = {}, {}, set()
    for event in events:
        made, ended = event.expectation_set, event.expectation_resolved
        if event.HasField("expectation_set"):
            promises[made.expectation_id] = words.plain(made.promise)
        elif event.HasField("expectation_resolved"):
            ends[ended.expectation_id] = int(ended.outcome)
        elif event.HasField("event_retracted"):
            retracted.add(event.event_retracted.event_id)
    by_id = {event.event_id: event for event in events}
    return Surroundings(now, name, by_id, promises, ends, frozenset(retracted))


def actor(event: ev.Event, around: Surroundings) -> str:
    """Returns who acted."""
    if event.actor.kind in (ev.ACTOR_KIND_UNSPECIFIED, ev.ACTOR_KIND_CUSTOMER):
        return around.name
    return words.plain(event.actor.reference or event.source)


def by_company(event: ev.Event) -> bool:
    """Returns whether somebody or something of the company acted."""
    return event.actor.kind in (ev.ACTOR_KIND_EMPLOYEE, ev.ACTOR_KIND_SYSTEM)


def quiet(*details: str) -> tuple[tuple[str, str], ...]:
    """Returns remarks in the quiet style, without the empty ones."""
    return tuple((detail, palette.QUIET) for detail in details if detail)


def answers(in_reply_to: str, around: Surroundings) -> str:
    """Returns which entry this one answers; empty when it is not among the entries."""
    if not (first := around.events.get(in_reply_to)):
        return ""
    moment = words.local(first.occurred_at, around.now.tzinfo)
    return f"answers {words.when(moment, around.now)}"
