"""What comes next on the line: given a checkpoint and a batch, then its new events or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.eventstore.chain import GENESIS, Head, extend
from libs.projection.batches import Batch
from libs.projection.continuity import Checkpoint, Damaged, Discontinuity, Fork, Gap
from touchline.store.v1.store_pb2 import EventBatch, PackedEvent

STORE, OTHER_STORE = b"s" * 16, b"o" * 16
HASHES = [sha256(b"event %d" % number).digest() for number in range(12)]


def at(position: int, hashes: Sequence[bytes] = HASHES) -> Head:
    """The place on the line after some events."""
    return Head(STORE, position, extend(GENESIS, hashes[:position]))


def batch(first: int, last: int, hashes: Sequence[bytes] = HASHES) -> EventBatch:
    """The events of the line from one position to another."""
    events = [PackedEvent(content_hash=one, record=one) for one in hashes[first - 1 : last]]
    return EventBatch(
        store_id=STORE,
        previous_chain=at(first - 1, hashes).chain,
        chain=at(last, hashes).chain,
        first=first,
        last=last,
        events=events,
    )


def next_events(place: Head, told: EventBatch) -> Sequence[PackedEvent]:
    read = Batch(told)
    return read.events[read.known_at(place) :]


def end_of(told: EventBatch) -> Head:
    return Batch(told).end


def positions(events: Sequence[PackedEvent]) -> list[int]:
    return [HASHES.index(event.content_hash) + 1 for event in events]


@pytest.mark.parametrize(
    ("place", "told", "new"),
    [
        (at(3), batch(4, 6), [4, 5, 6]),
        (at(4), batch(2, 6), [5, 6]),
        (at(6), batch(4, 6), []),
        (at(9), batch(4, 6), []),
        (at(0), batch(1, 2), [1, 2]),
        (at(3), batch(4, 3), []),
    ],
    ids=[
        "it follows",
        "it overlaps",
        "it ends here",
        "it is old",
        "it is the first",
        "it is empty",
    ],
)
def test_given_a_batch_that_continues_then_only_what_is_new_is_told(
    place: Head, told: EventBatch, new: list[int]
) -> None:
    assert positions(next_events(place, told)) == new


def test_given_a_projection_that_has_read_nothing_then_any_store_is_its_store() -> None:
    assert len(next_events(Head(b"", 0, GENESIS), batch(1, 3))) == 3


def test_given_a_batch_that_starts_later_then_it_is_a_gap() -> None:
    with pytest.raises(Gap, match="starts at 5, after 3"):
        next_events(at(3), batch(5, 6))


def test_given_a_batch_of_another_store_then_it_is_a_fork_even_where_the_chains_agree() -> None:
    told = batch(4, 6)
    told.store_id = OTHER_STORE
    with pytest.raises(Fork, match="comes from store 6f6f"):
        next_events(at(3), told)


@pytest.mark.parametrize("first", [4, 2], ids=["it follows by number", "it overlaps"])
def test_given_a_batch_of_another_past_then_it_is_a_fork(first: int) -> None:
    other = [HASHES[0], HASHES[11], *HASHES[2:]]
    with pytest.raises(Fork, match="another chain at position 3"):
        next_events(at(3), batch(first, 6, other))


def test_given_a_batch_with_fewer_events_than_it_says_then_it_is_damaged() -> None:
    told = batch(4, 6)
    del told.events[1]
    with pytest.raises(Damaged, match="says 4 to 6 and has 2 events"):
        next_events(at(3), told)


def test_given_a_batch_whose_new_event_was_changed_then_it_is_damaged() -> None:
    told = batch(4, 6)
    told.events[1].content_hash = HASHES[0]
    with pytest.raises(Damaged, match="its chain does not cover"):
        next_events(at(3), told)


def test_given_a_checkpoint_then_after_a_batch_it_stands_where_the_batch_ends() -> None:
    moved = Checkpoint(epoch=7).after(end_of(batch(1, 5)))
    assert moved == Checkpoint(7, STORE, 5, at(5).chain)


deliveries = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=8)
"""How far each batch reaches back over what was told, and how far on."""


@given(deliveries)
def test_given_any_cut_into_overlapping_batches_then_each_event_comes_exactly_once(
    cuts: list[tuple[int, int]],
) -> None:
    place, told = Head(b"", 0, GENESIS), list[int]()
    for back, on in cuts:
        first = max(1, place.position + 1 - back)
        delivered = batch(first, min(max(first, place.position - 2 + on), len(HASHES)))
        told += positions(next_events(place, delivered))
        place = max(place, end_of(delivered), key=lambda head: head.position)
    delivered = batch(place.position + 1, len(HASHES))
    told += positions(next_events(place, delivered))

    assert told == list(range(1, len(HASHES) + 1))
    assert end_of(delivered) == at(len(HASHES))


def _drop(told: EventBatch, i: int, _: int) -> None:
    del told.events[i]


def _drop_honestly(told: EventBatch, i: int, _: int) -> None:
    del told.events[i]
    told.last -= 1


def _duplicate(told: EventBatch, i: int, _: int) -> None:
    told.events.insert(i, told.events[i])


def _duplicate_honestly(told: EventBatch, i: int, _: int) -> None:
    told.events.insert(i, told.events[i])
    told.last += 1


def _swap(told: EventBatch, i: int, j: int) -> None:
    one, other = PackedEvent(), PackedEvent()
    j = j if j != i else (i + 1) % len(told.events)
    one.CopyFrom(told.events[i])
    other.CopyFrom(told.events[j])
    told.events[i].CopyFrom(other)
    told.events[j].CopyFrom(one)


def _replace(told: EventBatch, i: int, _: int) -> None:
    told.events[i].content_hash = sha256(b"of another line").digest()


def _change_a_bit(told: EventBatch, i: int, j: int) -> None:
    changed = bytearray(told.events[i].content_hash)
    changed[j % 32] ^= 1 << (j % 8)
    told.events[i].content_hash = bytes(changed)


def _change_the_chain(told: EventBatch, *_: int) -> None:
    told.chain = sha256(told.chain).digest()


def _change_the_previous_chain(told: EventBatch, *_: int) -> None:
    told.previous_chain = sha256(told.previous_chain).digest()


def _renumber(told: EventBatch, i: int, j: int) -> None:
    step = 1 if (i + j) % 2 else -1
    told.first += step
    told.last += step


def _change_the_store(told: EventBatch, *_: int) -> None:
    told.store_id = OTHER_STORE


CORRUPTIONS: list[Callable[[EventBatch, int, int], None]] = [
    *(_drop, _drop_honestly, _duplicate, _duplicate_honestly, _swap, _replace),
    *(_change_a_bit, _change_the_chain, _change_the_previous_chain, _renumber, _change_the_store),
]


@given(corrupt=st.sampled_from(CORRUPTIONS), data=st.data())
def test_given_a_corrupted_batch_with_news_then_it_is_refused_whatever_is_wrong(
    corrupt: Callable[[EventBatch, int, int], None], data: st.DataObject
) -> None:
    here = data.draw(st.integers(0, len(HASHES) - 2), label="at")
    first = data.draw(st.integers(1, here + 1), label="first")
    last = data.draw(st.integers(max(here, first) + 1, len(HASHES)), label="last")
    told = batch(first, last)
    index = st.integers(0, len(told.events) - 1)
    corrupt(told, data.draw(index, label="i"), data.draw(index, label="j"))

    with pytest.raises(Discontinuity):
        next_events(at(here), told)
