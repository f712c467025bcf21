"""What views and attributes say doesn't depend on how events arrived (invariant 9)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.profile.domain import VIEWS, Touch, attributes, show
from tests.histories import NOW_US, histories
from touchline.profile.v1 import profile_pb2, views_pb2

KINDS = pytest.mark.parametrize("kind", VIEWS, ids=views_pb2.ViewKind.Name)


def shown(kind: views_pb2.ViewKind.ValueType, touches: list[Touch]) -> bytes:
    return show(kind, touches, NOW_US).SerializeToString(deterministic=True)


@KINDS
@settings(max_examples=60, deadline=None)
@given(history=histories(), seed=st.integers())
def test_a_view_of_events_shuffled_and_delivered_twice_is_the_same(
    kind: views_pb2.ViewKind.ValueType, history: list[Touch], seed: int
) -> None:
    again = history * 2
    random.Random(seed).shuffle(again)
    assert shown(kind, again) == shown(kind, history)


@settings(max_examples=60, deadline=None)
@given(history=histories(), seed=st.integers())
def test_attributes_of_events_shuffled_and_delivered_twice_are_the_same(
    history: list[Touch], seed: int
) -> None:
    again = history * 2
    random.Random(seed).shuffle(again)
    once, twice = (profile_pb2.Profile(attributes=attributes(told)) for told in (history, again))
    assert once == twice


@KINDS
@settings(max_examples=40, deadline=None)
@given(history=histories(), data=st.data())
def test_the_view_of_a_merged_profile_is_the_fold_of_both_histories(
    kind: views_pb2.ViewKind.ValueType, history: list[Touch], data: st.DataObject
) -> None:
    mine = data.draw(st.lists(st.sampled_from(history), unique_by=id)) if history else []
    theirs = [touch for touch in history if touch not in mine]
    shared = mine[:2]  # an event that names identities of both belongs to both
    assert shown(kind, mine + shared + theirs) == shown(kind, theirs + mine)


@KINDS
@settings(max_examples=40, deadline=None)
@given(history=histories())
def test_events_of_types_a_view_does_not_read_change_nothing(
    kind: views_pb2.ViewKind.ValueType, history: list[Touch]
) -> None:
    read = [
        touch
        for touch in history
        if touch.event.DESCRIPTOR.fields_by_name[touch.event.WhichOneof("fact") or ""].number
        in VIEWS[kind].reads
    ]
    assert shown(kind, read) == shown(kind, history)


@KINDS
@settings(max_examples=40, deadline=None)
@given(history=histories())
def test_a_fold_leaves_its_events_as_they_were(
    kind: views_pb2.ViewKind.ValueType, history: list[Touch]
) -> None:
    before = [touch.event.SerializeToString(deterministic=True) for touch in history]
    shown(kind, history)
    assert [touch.event.SerializeToString(deterministic=True) for touch in history] == before


@settings(max_examples=40, deadline=None)
@given(history=histories(), seed=st.integers())
def test_a_merge_adds_up_what_is_counted(history: list[Touch], seed: int) -> None:
    def uses(touches: list[Touch]) -> dict[int, int]:
        view = show(views_pb2.VIEW_KIND_MARKETING, touches, NOW_US)
        assert isinstance(view, views_pb2.MarketingView)
        return {use.channel: use.total for use in view.channels}

    # A retraction may reach over from one to the other, so it is no matter of adding up.
    kept = [touch for touch in history if touch.event.WhichOneof("fact") != "event_retracted"]
    random.Random(seed).shuffle(kept)
    middle = len(kept) // 2
    mine, theirs, both = uses(kept[:middle]), uses(kept[middle:]), uses(kept)
    assert both == {
        channel: mine.get(channel, 0) + theirs.get(channel, 0)
        for channel in mine.keys() | theirs.keys()
    }
