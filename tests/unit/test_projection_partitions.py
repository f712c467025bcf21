"""Ranges of partitions: whose events a fold gets, and where a stretch of them ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.eventstore.chain import GENESIS, Head, extend
from libs.projection.partitions import Partitions, divided
from libs.projection.reading import Stretch, read_feed
from tests.lines import KINDS, STORE, Told, batch_sizes, batches_of, key_of, lines, recorded

START = Head(STORE, 0, GENESIS)

ranges = st.sampled_from([one for parts in (1, 2, 4, 16, 64) for one in divided(parts)])


@given(line=lines(), sizes=batch_sizes, partitions=ranges)
def test_a_stretch_of_a_range_has_its_events_at_their_positions_and_ends_where_the_line_does(
    line: list[Told], sizes: list[int], partitions: Partitions
) -> None:
    stretch, broken = read_feed(START, batches_of(recorded(line), sizes, partitions), partitions)
    assert broken is None
    assert stretch.events == [
        event for event in recorded(line) if partitions.has(event.record.owner_key)
    ]
    whole, _ = read_feed(START, batches_of(recorded(line)))
    assert (stretch.end, stretch.hashes) == (whole.end, whole.hashes)


@given(line=lines(), partitions=ranges, where=st.data())
def test_a_stretch_that_is_cut_anywhere_is_both_its_parts(
    line: list[Told], partitions: Partitions, where: st.DataObject
) -> None:
    whole, _ = read_feed(START, batches_of(recorded(line)), partitions)
    position = where.draw(st.integers(0, len(line)))
    before, after = whole.cut(START, position)
    assert [*before.events, *after.events] == whole.events
    assert all(event.position <= position for event in before.events)
    assert all(event.position > position for event in after.events)
    assert before.end == Head(STORE, position, extend(GENESIS, whole.hashes[:position]))
    assert (after.end, extend(before.end.chain, after.hashes)) == (whole.end, whole.end.chain)
    assert before.cut(START, position) == (before, Stretch(before.end, partitions=partitions))


@given(line=lines(), sizes=batch_sizes, others=st.lists(ranges, max_size=4), partitions=ranges)
def test_a_batch_that_others_have_read_from_other_places_says_the_same(
    line: list[Told], sizes: list[int], others: list[Partitions], partitions: Partitions
) -> None:
    shared = batches_of(recorded(line), sizes)
    for number, other in enumerate(others):
        place, _ = read_feed(START, shared[:number], other)
        read_feed(place.end, shared, other)
    alone, _ = read_feed(START, batches_of(recorded(line), sizes), partitions)
    assert read_feed(START, shared, partitions) == (alone, None)


def test_every_range_gets_an_erasure_with_its_own_identities_only() -> None:
    line = [Told(1, erases=tuple(KINDS))]
    found = list[bytes]()
    for partitions in divided(4):
        stretch, _ = read_feed(START, batches_of(recorded(line), wanted=partitions), partitions)
        (event,) = stretch.events
        assert all(map(partitions.has, event.record.erasure.identity_keys))
        assert event.record_bytes == recorded(line)[0].record_bytes
        found += event.record.erasure.identity_keys
    assert sorted(found) == sorted(map(key_of, KINDS))


@given(partitions=ranges.filter(lambda one: one.first < one.last))
def test_both_halves_of_a_range_are_siblings_and_have_all_that_it_has(
    partitions: Partitions,
) -> None:
    first, second = partitions.halves
    assert (first.sibling, second.sibling) == (second, first)
    assert (first.first, first.last + 1, second.last) == (
        partitions.first,
        second.first,
        partitions.last,
    )
