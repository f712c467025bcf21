"""What is known of a person, what they allow, and what they were promised."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from libs.cli.pages.markup import Markup, joined, tag
from libs.cli.pages.tables import styles, table, when
from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.consents import State, channel, source, status_of, status_said, under
from libs.cli.rendering.lines import Surroundings, standings
from touchline.profile.v1 import consents_pb2 as consents
from touchline.profile.v1 import erasure_pb2 as erasures
from touchline.profile.v1 import profile_pb2 as profiles
from touchline.times import timestamp_of


def known(values: Sequence[erasures.AttributeValue], now: datetime) -> Iterator[Markup]:
    """Yields what is known, and below it what was known before.

    Args:
        values: All observations.
        now: When the export was made.
    """
    yield tag("h2", "What we know about you, and how", id="known")
    if not values:
        yield tag("p", "Nothing besides.", class_="quiet")
        return
    by_name = sorted(values, key=lambda one: (one.name != "name", one.name))
    rows, former = list[tuple[str, ...]](), list[tuple[str, ...]]()
    for name, group in groupby(by_name, key=lambda one: one.name):
        for one in group:
            value = tag("strong", one.value) if one.value else tag("small", "no longer")
            who = " · ".join(filter(None, (one.source, one.actor_reference)))
            row = (words.human(name), value, when(one.occurred_at, now), tag("small", who))
            (rows if one.current else former).append(row)
    yield table(("", "", "since", "told by"), rows)
    if former:
        summary = tag("summary", f"What was told before ({len(former):,})")
        yield tag("details", summary, table(("", "", "told", "by"), former))


def allowed(stand: Sequence[State], now: datetime) -> Iterator[Markup]:
    """Yields how consents and preferences stand, and all that was said.

    Args:
        stand: The consents and the preferences.
        now: When the export was made.
    """
    yield tag("h2", "What you allow, forbid and like", id="allowed")
    if not stand:
        yield tag("p", "You told us nothing about it.", class_="quiet")
        return
    yield table(("", "for", "by", "what you said"), [_state(one, now) for one in stand])


def _state(one: State, now: datetime) -> Sequence[str]:
    symbol, style, state = status_of(one)
    said = [_word(word, now) for word in one.words]
    return (
        tag("span", f"{symbol} {state}", class_=styles(style)),
        tag("strong", words.human(one.purpose) or "Everything"),
        channel(one.channel),
        joined(*said),
    )


def _word(word: consents.ConsentWord, now: datetime) -> Markup:
    _, style, state = status_said(word)
    decides = " – decides" if word.decides else "" if word.counts else " – no longer counts"  # noqa: RUF001
    said = tag("span", f"{state} {when(word.occurred_at, now)}", class_=styles(style))
    proof = f" · {word.proof}" if word.proof else ""
    remark = tag("small", f" under {under(word)} · {source(word)}{proof}{decides}")
    return tag("p", said, remark)


def promises(kept: Sequence[profiles.TimelineEntry], around: Surroundings) -> Iterator[Markup]:
    """Yields what was promised, and how it ended.

    Args:
        kept: The entries about promises and retractions.
        around: How promises ended, and what was retracted.
    """
    yield tag("h2", "What we promised you", id="promises")
    events = [one.event for one in kept if one.event.event_id not in around.retracted]
    stand = standings(events)
    made = [event for event in events if event.HasField("expectation_set")]
    if not made:
        yield tag("p", "Nothing.", class_="quiet")
        return
    rows = []
    for event in made:
        fact = event.expectation_set
        end = around.ends.get(fact.expectation_id, 0)
        symbol, style, word = terms.OUTCOMES.get(end, (palette.OPEN, "", "open"))
        mark = tag("span", f"{symbol} {word}", class_=styles(style))
        due = timestamp_of(stand[fact.expectation_id].due_at_us)
        promised = when(event.occurred_at, around.now)
        rows.append((mark, tag("strong", fact.promise), promised, when(due, around.now)))
    yield table(("", "", "promised", "due"), rows)
