"""A line of a timeline before it is laid out, and what lines need to know of each other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from libs.cli.rendering import palette, words
from libs.expectations import Standing, Telling, standing, telling_of
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.notification.v1 import notification_pb2 as notification
from touchline.profile.v1 import profile_pb2 as profiles
from touchline.times import micros_of


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
        ends: How each promise ended, or that it was renegotiated; see libs.expectations.
        retracted: Ids of events that no longer count.
        dated: Whether times are written with their date, for those who read it on another day.
    """

    now: datetime
    name: str
    events: dict[str, ev.Event] = field(default_factory=dict)
    promises: dict[str, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    retracted: frozenset[str] = frozenset()
    dated: bool = False

    def when(self, moment: datetime) -> str:
        """Returns a time such as `today 17:00`; dated, such as `3 Nov 2026 17:00`."""
        if self.dated:
            return f"{moment.day} {moment:%b} {moment.year} {moment:%H:%M}"
        return words.when(moment, self.now)


def surroundings(
    entries: Sequence[profiles.TimelineEntry], *, now: datetime, name: str
) -> Surroundings:
    """Reads from entries, newest first, what their lines need to know of each other."""
    events = [entry.event for entry in reversed(entries) if not entry.erased]
    promises, retracted = {}, set()
    for event in events:
        made = event.expectation_set
        if event.HasField("expectation_set"):
            promises[made.expectation_id] = words.plain(made.promise)
        elif event.HasField("event_retracted"):
            retracted.add(event.event_retracted.event_id)
    by_id = {event.event_id: event for event in events}
    ends = _ends(event for event in by_id.values() if event.event_id not in retracted)
    return Surroundings(now, name, by_id, promises, ends, frozenset(retracted))


def standings(events: Iterable[ev.Event]) -> dict[str, Standing]:
    """Returns how promises stand, by expectation, from the events that told of them."""
    told: defaultdict[str, list[Telling]] = defaultdict(list)
    for event in events:
        name = event.expectation_set.expectation_id or event.expectation_resolved.expectation_id
        if name:
            at_us = micros_of(event.occurred_at)
            telling = telling_of(event, UUID(event.event_id).bytes, at_us)
            told[name] += [telling] if telling else []
    stand = {name: standing(tellings) for name, tellings in told.items()}
    return {name: now for name, now in stand.items() if now is not None}


def _ends(events: Iterable[ev.Event]) -> dict[str, int]:
    return {name: end for name, now in standings(events).items() if (end := _end(now))}


def _end(now: Standing) -> int:
    """Returns how a promise ended; while it is open, whether it was renegotiated."""
    return _ENDS.get(now.state, int(now.due.outcome))


_ENDS = {
    notification.EXPECTATION_STATE_KEPT: int(facts.EXPECTATION_OUTCOME_KEPT),
    notification.EXPECTATION_STATE_BROKEN: int(facts.EXPECTATION_OUTCOME_BROKEN),
    notification.EXPECTATION_STATE_WITHDRAWN: int(facts.EXPECTATION_OUTCOME_WITHDRAWN),
}


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
    return f"answers {around.when(moment)}"
