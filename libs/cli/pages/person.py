"""The page that tells a person everything that is kept about them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from libs.cli.pages.days import days
from libs.cli.pages.gathered import Gathered
from libs.cli.pages.markup import Markup, joined, tag
from libs.cli.pages.sections import allowed, known, promises
from libs.cli.pages.tables import styles, table, when
from libs.cli.rendering import terms, words
from libs.cli.rendering.lines import surroundings
from libs.cli.rendering.links import EFFECTS, RULES, VERDICTS
from touchline.profile.v1 import identities_pb2 as identities
from touchline.profile.v1 import profile_pb2 as profiles

_STYLE: Final = Markup(Path(__file__).with_name("person.css").read_text("utf-8"))
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_YOU: Final = "you"


def person(
    gathered: Gathered, entries: Iterable[profiles.TimelineEntry], now: datetime
) -> Iterator[Markup]:
    """Yields the page, piece by piece.

    Args:
        gathered: From all items of the export.
        entries: What happened, the oldest first.
        now: When the export was made; times are told in its time zone.
    """
    name = terms.profile_name(gathered.profile)
    around = replace(surroundings(gathered.kept[::-1], now=now, name=_YOU), dated=True)
    yield Markup('<!DOCTYPE html>\n<html lang="en">\n')
    yield _head(name)
    yield Markup("\n<body>\n<main>\n")
    yield _heading(gathered, name, now)
    yield from _who(gathered, now)
    yield from known(gathered.values, now)
    yield from allowed(gathered.stand, now)
    yield from promises(gathered.kept, around)
    for day in days(entries, around, frozenset(gathered.spoken_of)):
        yield joined(day, Markup("\n"))
    yield _not_in_it()
    yield Markup("\n</main>\n</body>\n</html>\n")


def _head(name: str) -> Markup:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="robots", content="noindex"),
        tag("title", f"Everything we keep about {name or _YOU}"),
        tag("style", _STYLE),
    )


def _heading(gathered: Gathered, name: str, now: datetime) -> Markup:
    entries = sum(gathered.years.values())
    position = gathered.end.position if gathered.end else 0
    zone = f"{now:%z}"
    told = (
        f"{entries:,} {'entry' if entries == 1 else 'entries'}, as known "
        f"{words.day(now)} at {now:%H:%M}. Times are those of UTC{zone[:3]}:{zone[3:]}."
    )
    years = [tag("a", f"{year} ({n:,})", href=f"#y{year}") for year, n in gathered.years.items()]
    links = [
        tag("a", title, href=f"#{place}")
        for place, title in (
            ("who", "Who you are"),
            ("known", "What we know"),
            ("allowed", "What you allow"),
            ("promises", "Promises"),
            ("without", "What is not in here"),
        )
    ]
    return tag(
        "header",
        tag("h1", name or "Everything we keep about you"),
        tag("p", "Everything we keep about you. " if name else "", told, class_="quiet"),
        tag("p", tag("code", f"profile {gathered.profile.profile_id} · position {position}")),
        tag("nav", *links),
        tag("nav", *years),
    )


def _who(gathered: Gathered, now: datetime) -> Iterator[Markup]:
    yield tag("h2", "Who we think you are, and why", id="who")
    rows = [
        (kind, tag("strong", value))
        for one in gathered.profile.identities
        for kind, _, value in [terms.identity(one.identity).partition(" ")]
    ]
    yield table(("", "known by"), rows)
    if gathered.links:
        yield tag("h3", "Why we think that all of these are you")
        shown = [_link(one, now) for one in gathered.links]
        yield table(("", "these two", "because", "since", "events"), shown)
    if gathered.verdicts:
        yield tag("h3", "What people decided about it")
        decided = [_verdict(one, now) for one in gathered.verdicts]
        yield table(("", "when", "by", "why"), decided)


def _link(one: identities.IdentityLink, now: datetime) -> Sequence[str]:
    symbol, style, effect = EFFECTS[one.effect]
    both = [tag("p", terms.identity(side.identity)) for side in (one.left, one.right)]
    rule = joined(tag("p", RULES[one.rule][1]), tag("small", words.plain(one.source)))
    mark = tag("span", f"{symbol} {effect}", class_=styles(style))
    return mark, joined(*both), rule, when(one.occurred_at, now), f"{one.events:,}"


def _verdict(one: identities.IdentityVerdict, now: datetime) -> Sequence[str]:
    told = VERDICTS.get(one.kind, "decided") + (", taken back" if one.revoked else "")
    return told, when(one.decided_at, now), words.plain(one.decided_by), one.reason


def _not_in_it() -> Markup:
    return tag(
        "section",
        tag("h2", "What is not in here", id="without"),
        tag(
            "div",
            *(tag("p", told) for told in _WITHOUT),
            class_="note",
        ),
    )


_WITHOUT: Final = (
    "Scores and views: they are computed from what is above whenever somebody looks, and are kept "
    "under keys that name nobody.",
    "What other systems of ours keep, such as the shop's or the mail server's own data: here is "
    "what they told.",
    "Events that were sent about you and rejected for a mistake in them: they are not part of this "
    "record, and are listed apart.",
    "Backups, which hold older copies of the same, and logs and measurements, which name nobody.",
)
