"""Everything that happened, day by day, the oldest first."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby

from libs.cli.pages.markup import Markup, joined, tag
from libs.cli.pages.tables import styles
from libs.cli.rendering import words
from libs.cli.rendering.facts import describe
from libs.cli.rendering.lines import Line, Surroundings
from touchline.events.v1 import event_pb2 as ev
from touchline.profile.v1 import profile_pb2 as profiles


def days(
    entries: Iterable[profiles.TimelineEntry], around: Surroundings, wanted: frozenset[str]
) -> Iterator[Markup]:
    """Yields the days of a history, one after the other, so that it may be long.

    Args:
        entries: What happened, the oldest first.
        around: What lines need to know of each other; events that are spoken of later are added.
        wanted: The ids of events that others speak of.
    """
    year = 0
    for date, those in groupby(entries, key=lambda entry: _moment(entry, around).date()):
        if date.year != year:
            year = date.year
            yield tag("h2", f"What happened in {year}", id=f"y{year}")
        lines = []
        for entry in those:
            if entry.event.event_id in wanted:
                around.events[entry.event.event_id] = entry.event
            lines.append(one(entry, around))
        title = tag("h3", words.day(datetime.combine(date, datetime.min.time())))
        yield tag("section", title, tag("ol", *lines), class_="day")


def one(entry: profiles.TimelineEntry, around: Surroundings) -> Markup:
    """Returns an entry as an item of a list."""
    line, moment = describe(entry, around), _moment(entry, around)
    people = f"{line.who} → {line.whom}" if line.whom else line.who
    label = joined(tag("span", line.symbol, class_="mark", aria_hidden="true"), line.label)
    return tag(
        "li",
        tag("time", f"{moment:%H:%M}", datetime=moment.isoformat()),
        tag("span", label, class_=styles(line.style)),
        tag("div", *_body(entry.event, line, people)),
    )


def _body(event: ev.Event, line: Line, people: str) -> Iterator[Markup]:
    remarks = [tag("span", text, class_=styles(style)) for text, style in line.details]
    told: list[str] = [people] if people else []
    for remark in remarks:
        told += [" · ", remark] if told else [remark]
    if line.headline:
        yield tag("p", tag("span", line.headline, class_=styles(line.headline_style)))
    if told:
        yield tag("p", tag("small", *told))
    if text := _said(event) or line.text:
        yield tag("p", text, class_="said" if line.headline else "said alone")


def _said(event: ev.Event) -> str:
    """Returns what was said with its paragraphs, which a line has not; empty: nothing was."""
    name = event.WhichOneof("fact")
    if name not in ("interaction", "community_posted", "note_added", "signal_observed"):
        return ""
    text: str = getattr(event, name).text
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _moment(entry: profiles.TimelineEntry, around: Surroundings) -> datetime:
    return words.local(entry.event.occurred_at, around.now.tzinfo)
