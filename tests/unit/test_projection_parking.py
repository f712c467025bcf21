"""Which failures are the events' fault, and what is told of them."""

from __future__ import annotations

import asyncio

import asyncpg
import nats.errors
import pytest
from asyncpg.exceptions import _base

from libs.eventstore.chain import GENESIS, Head, extend
from libs.eventstore.errors import SealBroken, StoreUnavailable
from libs.projection.batches import Batch
from libs.projection.continuity import Damaged
from libs.projection.parking import error_text, is_outage
from libs.projection.reading import Stretch, read_feed
from libs.projection.waiting import Behind
from tests.lines import Told, recorded
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent

PERSONAL = "Key (email)=(ana@example.org) already exists."


@pytest.mark.parametrize(
    "error",
    [
        *(StoreUnavailable(), Behind("timeline", 1, ""), nats.errors.TimeoutError()),
        *(ConnectionResetError(), TimeoutError(), MemoryError(), asyncio.CancelledError()),
        *(asyncpg.InterfaceError("closed"), asyncpg.InternalClientError()),
        *(asyncpg.ConnectionDoesNotExistError(), asyncpg.AdminShutdownError()),
        *(asyncpg.DiskFullError(), asyncpg.OutOfMemoryError(), asyncpg.TooManyConnectionsError()),
        *(asyncpg.DeadlockDetectedError(), asyncpg.SerializationError()),
        *(asyncpg.QueryCanceledError(), asyncpg.IdleInTransactionSessionTimeoutError()),
        *(asyncpg.ReadOnlySQLTransactionError(), asyncpg.UndefinedTableError()),
        *(asyncpg.InsufficientPrivilegeError(), asyncpg.IndexCorruptedError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_away_full_or_in_the_way_is_no_events_fault(error: BaseException) -> None:
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError("ana@example.org"), ValueError(), RecursionError(), SealBroken()),
        *(asyncpg.UniqueViolationError(PERSONAL), asyncpg.NotNullViolationError()),
        *(asyncpg.NumericValueOutOfRangeError(), asyncpg.CharacterNotInRepertoireError()),
        # What asyncpg says of a value before it is sent is an InterfaceError as well.
        _base.DataError("invalid input for query argument $1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_fold_or_a_value_causes_is_the_events_fault(error: BaseException) -> None:
    assert not is_outage(error)


def test_the_text_of_an_error_says_where_and_nothing_that_an_event_says() -> None:
    violation = asyncpg.UniqueViolationError(PERSONAL)
    violation.constraint_name = "timeline_pkey"
    assert error_text(violation) == "UniqueViolationError 23505 (timeline_pkey)"
    assert error_text(SealBroken("it does not open")) == "SealBroken: it does not open"
    with pytest.raises(KeyError) as caught:
        _look_up("ana@example.org")
    assert error_text(caught.value).startswith("KeyError in _look_up, line ")
    assert "ana" not in error_text(caught.value)


def _look_up(name: str) -> int:
    return dict[str, int]()[name]


def _line(count: int) -> tuple[Stretch, list[bytes]]:
    hashes = [bytes([number]) * 32 for number in range(count)]
    events = recorded(Told(number, ("anna@",)) for number in range(1, count + 1))
    return Stretch(Head(b"s", count, extend(GENESIS, hashes)), events, hashes), hashes


@pytest.mark.parametrize("count", [2, 3, 9])
def test_both_halves_of_a_stretch_are_its_events_and_continue_each_other(count: int) -> None:
    whole, hashes = _line(count)
    first, second = whole.halves(Head(b"s", 0, GENESIS))
    assert first.events + second.events == whole.events
    assert first.end == Head(b"s", count // 2, extend(GENESIS, hashes[: count // 2]))
    assert second.end == whole.end
    assert extend(first.end.chain, second.hashes) == whole.end.chain


def test_a_record_of_the_feed_that_cannot_be_read_breaks_the_stretch_off_before_its_batch() -> None:
    hashes = [bytes([number]) * 32 for number in range(3)]
    good, bad = [
        EventBatch(
            store_id=b"s",
            first=first,
            last=last,
            previous_chain=extend(GENESIS, hashes[: first - 1]),
            chain=extend(GENESIS, hashes[:last]),
            events=[
                PackedEvent(content_hash=one, record=record) for one in hashes[first - 1 : last]
            ],
        )
        for first, last, record in [(1, 2, b""), (3, 3, b"\xff")]
    ]
    stretch, broken = read_feed(Head(b"", 0, GENESIS), [Batch(good), Batch(bad)])
    assert (stretch.end.position, len(stretch.events)) == (2, 2)
    assert isinstance(broken, Damaged)
