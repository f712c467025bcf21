"""The checker of `make test-faults` can fail: it finds what is dropped, exchanged or added."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from tests.faults.checking import Batch, Evidence, Folded, Row, check
from tests.faults.history import (
    CONFLICT,
    DUPLICATE,
    RECORDED,
    REJECTED,
    VERSION_TAKEN,
    Answer,
    History,
    Sent,
)

STORE = b"store"
THERE = "every acknowledged event is there once, as it was sent"
REFUSED = "what was refused is not on the line"
UNSENT = "nothing is there that nobody sent"
POSITIONS = "positions are 1 to n, each once"
CHAIN = "the chain is intact"
ORDER = "acknowledged before another was sent: the smaller position"
STREAMS = "streams have one event per version, without a gap"
FEED = "the feed continues the store"
DECISIONS = "no decision was made twice, none without its cause"
LEFT = "nothing waits in an outbox, is dead or parked"
FOLD = "notes: every table = folded anew"
REST = "every projection reaches the head"
TOLD = "the product's own verification finds nothing"

Change = Callable[[Evidence], Evidence]


def row(position: int, event_id: str, chain: bytes, **rest: Any) -> Row:
    content_hash = sha256(event_id.encode()).digest()
    return Row(
        position,
        event_id,
        event_id.encode(),
        content_hash,
        sha256(chain + content_hash).digest(),
        b"sealed " + event_id.encode(),
        **rest,
    )


def line() -> list[Row]:
    """Four facts, two versions of a stream, and a decision that follows from the first."""
    rows: list[Row] = []
    for position, event_id in enumerate(("a", "b", "c", "d", "v0", "v1", "decided"), 1):
        rest: dict[str, Any] = {}
        if event_id.startswith("v"):
            rest = {"stream": "s", "version": int(event_id[1])}
        if event_id == "decided":
            rest = {"decision": ("told", "a"), "cause": "a", "of_service": True}
        rows.append(row(position, event_id, rows[-1].chain if rows else bytes(32), **rest))
    return rows


def batch(rows: list[Row], first: int, last: int) -> Batch:
    before = rows[first - 2].chain if first > 1 else bytes(32)
    events = [(one.content_hash, one.record) for one in rows[first - 1 : last]]
    return Batch(STORE, before, rows[last - 1].chain, first, last, events)


def recorded() -> Evidence:
    """A small history that is as it should be, one call after the other."""
    history, rows, now = History(), line(), 0.0
    for one in rows[:6]:
        sent = Sent(one.event_id, one.content, one.stream, one.version)
        attempt = history.send("client", [sent])
        history.first_sent[one.event_id] = now
        history.answer(attempt, [(RECORDED, one.position)])
        history.answers[-1] = history.answers[-1]._replace(began=now, ended=now + 1)
        now += 2
    other = history.send("client", [Sent("a", b"other"), Sent("a", b"a"), Sent("wrong", b"wrong")])
    history.answer(other, [(CONFLICT, 1), (DUPLICATE, 1), (REJECTED, 0)])
    late = history.send("client", [Sent("late", b"late", "s", 1)])
    history.answer(late, [(VERSION_TAKEN, 0)])
    folded = [f"{one.position} {one.event_id}" for one in rows]
    return Evidence(
        history,
        STORE,
        (len(rows), rows[-1].chain),
        rows,
        [batch(rows, 2, 4), batch(rows, 5, 7)],  # it lost its beginning when it was wiped
        {"notes": {"touches": Folded(folded, list(folded))}},
        {"outbox": 0},
        {"verify store": []},
    )


def failing(evidence: Evidence) -> set[str]:
    return {claim.text for claim in check(evidence) if not claim.holds}


def with_rows(change: Callable[[list[Row]], None]) -> Change:
    def changed(evidence: Evidence) -> Evidence:
        rows = list(evidence.rows)
        change(rows)
        return replace(evidence, rows=rows)

    return changed


def with_feed(change: Callable[[list[Batch]], None]) -> Change:
    def changed(evidence: Evidence) -> Evidence:
        feed = list(evidence.feed)
        change(feed)
        return replace(evidence, feed=feed)

    return changed


def with_events_of_a_message(change: Callable[[list[tuple[bytes, bytes]]], None]) -> Change:
    def changed(feed: list[Batch]) -> None:
        events = list(feed[0].events)
        change(events)
        feed[0] = feed[0]._replace(events=events)

    return with_feed(changed)


def with_projection(change: Callable[[list[str]], None]) -> Change:
    def changed(evidence: Evidence) -> Evidence:
        folded = evidence.projections["notes"]["touches"]
        live = list(folded.live)
        change(live)
        return replace(evidence, projections={"notes": {"touches": folded._replace(live=live)}})

    return changed


def with_answer(answer: Answer) -> Change:
    def changed(evidence: Evidence) -> Evidence:
        history = evidence.history
        history.contents.setdefault(answer.sent.event_id, set()).add(answer.sent.content)
        history.answers.append(answer)
        return evidence

    return changed


def with_row(place: int, **changes: Any) -> Change:
    def changed(rows: list[Row]) -> None:
        rows[place] = rows[place]._replace(**changes)

    return with_rows(changed)


def drop(items: list[Any]) -> None:
    del items[1]


def swap(items: list[Any]) -> None:
    items[0], items[1] = items[1], items[0]


def duplicate(items: list[Any]) -> None:
    items.insert(1, items[1])


def swap_contents(rows: list[Row]) -> None:
    """Two events exchange their places, and the positions are made to look right."""
    rows[1], rows[2] = (
        rows[2]._replace(position=2, chain=rows[1].chain),
        rows[1]._replace(position=3, chain=rows[2].chain),
    )


def chain_anew(rows: list[Row]) -> None:
    """A clever forger drops an event and makes all that follow fit."""
    del rows[1]
    chain = bytes(32)
    for place, one in enumerate(rows):
        chain = sha256(chain + one.content_hash).digest()
        rows[place] = one._replace(position=place + 1, chain=chain)


def test_a_history_that_is_as_it_should_be_passes() -> None:
    claims = check(recorded())
    assert [claim for claim in claims if not claim.holds] == []
    assert {claim.text for claim in claims} == {
        *(THERE, REFUSED, UNSENT, POSITIONS, CHAIN, ORDER, STREAMS, FEED, DECISIONS, LEFT, REST),
        *(FOLD, TOLD),
    }


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (with_rows(drop), {THERE, REFUSED, POSITIONS, CHAIN, FEED}),
        (with_rows(swap), {POSITIONS, CHAIN}),
        (with_rows(duplicate), {THERE, POSITIONS, CHAIN}),
        (with_rows(swap_contents), {THERE, CHAIN, ORDER}),
        (with_rows(chain_anew), {THERE, POSITIONS, CHAIN, FEED}),
    ],
    ids=["dropped", "swapped", "duplicated", "exchanged", "dropped and chained anew"],
)
def test_an_event_dropped_swapped_or_duplicated_in_the_store_is_found(
    change: Change, found: set[str]
) -> None:
    expected = found - {REFUSED}  # which depends on whose event it was
    assert expected <= failing(change(recorded()))


@pytest.mark.parametrize("change", [drop, swap, duplicate], ids=lambda one: one.__name__)
@pytest.mark.parametrize("of", [with_feed, with_events_of_a_message], ids=["messages", "events"])
def test_what_is_dropped_swapped_or_duplicated_in_the_feed_is_found(
    of: Callable[[Callable[[list[Any]], None]], Change],
    change: Callable[[list[Any]], None],
) -> None:
    assert failing(of(change)(recorded())) == {FEED}


@pytest.mark.parametrize("change", [drop, swap, duplicate], ids=lambda one: one.__name__)
def test_a_row_dropped_swapped_or_duplicated_in_a_projection_is_found(
    change: Callable[[list[Any]], None],
) -> None:
    assert failing(with_projection(change)(recorded())) == {FOLD}


def test_an_acknowledged_event_that_is_not_there_is_found() -> None:
    ghost = Answer(Sent("ghost", b"ghost"), RECORDED, 9, 20.0, 21.0)
    assert failing(with_answer(ghost)(recorded())) == {THERE}


def test_an_event_that_was_told_another_position_is_found() -> None:
    again = Answer(Sent("a", b"a"), DUPLICATE, 2, 20.0, 21.0)
    assert failing(with_answer(again)(recorded())) == {THERE}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (with_row(0, content=b"other"), {THERE, REFUSED}),
        (with_row(1, content=b"never"), {THERE, UNSENT}),
        (with_row(6, of_service=False), {UNSENT}),
        (with_row(6, event_id="wrong", content=b"wrong"), {REFUSED}),
        (with_row(3, record=b"other bytes"), {FEED}),
        (with_row(5, version=0), {THERE, STREAMS}),
        (with_row(5, version=2), {THERE, STREAMS}),
        (with_row(5, decision=("told", "a"), cause="a"), {DECISIONS}),
        (with_row(6, cause="nowhere"), {DECISIONS}),
        (with_row(6, content=b"", decision=(), cause=""), {DECISIONS}),
        (lambda one: replace(one, head=(6, one.head[1])), {POSITIONS, FEED}),
        (lambda one: replace(one, head=(7, bytes(32))), {CHAIN}),
        (lambda one: replace(one, store_id=b"another"), {FEED}),
        (lambda one: replace(one, left={"outbox": 1}), {LEFT}),
        (lambda one: replace(one, unsettled=["timeline is at 3 of 7"]), {REST}),
        (lambda one: replace(one, told={"verify feed": ["a gap"]}), {TOLD}),
    ],
    ids=[
        "overwritten by what was in conflict",
        "content that nobody sent",
        "an event that nobody sent",
        "a rejected event recorded",
        "the feed has other bytes",
        "a version twice",
        "a version left out",
        "a decision twice",
        "a decision without its cause",
        "a decision that does not open",
        "a head before the last event",
        "a head with another chain",
        "a feed of another store",
        "a decision that was never sent",
        "a projection that stays behind",
        "the product's own finding",
    ],
)
def test_each_other_promise_that_is_broken_is_found(change: Change, found: set[str]) -> None:
    assert failing(change(recorded())) == found


def test_an_event_recorded_in_front_of_one_that_was_acknowledged_before_it_was_sent_is_found() -> (
    None
):
    evidence = recorded()
    evidence.history.first_sent["a"] = 100.0
    assert failing(evidence) == {ORDER}
