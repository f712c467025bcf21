"""Consents and preferences: given what was said for whom, then this holds."""

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.consents import (
    CONSENT,
    PREFERENCE,
    Standing,
    Topic,
    Word,
    erased_consent,
    holds,
    standing,
)
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    CHANNEL_PHONE,
    CHANNEL_UNSPECIFIED,
    CONSENT_STATUS_GRANTED,
    CONSENT_STATUS_WITHDRAWN,
    PREFERENCE_STATUS_ACCEPTED,
    PREFERENCE_STATUS_AVOIDED,
    PREFERENCE_STATUS_PREFERRED,
    Channel,
)

YES, NO = CONSENT_STATUS_GRANTED, CONSENT_STATUS_WITHDRAWN
EVERY, EMAIL, PHONE = CHANNEL_UNSPECIFIED, CHANNEL_EMAIL, CHANNEL_PHONE
A, B, C = b"a", b"b", b"c"
_ids = count(1)


def word(
    day: int,
    status: int,
    *keys: bytes,
    channel: Channel.ValueType = EVERY,
    purpose: str = "news",
    topic: Topic = CONSENT,
) -> Word:
    return Word(topic, b"%016d" % next(_ids), keys, day, day, purpose, channel, status)


def erased(day: int, *keys: bytes) -> Word:
    return erased_consent(b"%016d" % next(_ids), keys, day, day)


def states(
    words: Sequence[Word], *keys: bytes, topic: Topic = CONSENT
) -> dict[tuple[str, int], int]:
    return {(one.purpose, one.channel): one.status for one in standing(words, keys, topic)}


_KEYS = st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3, unique=True)
_WORDS = st.lists(
    st.builds(
        lambda day, status, keys, channel, purpose: word(
            day, status, *keys, channel=channel, purpose=purpose
        ),
        st.integers(1, 4),
        st.sampled_from([YES, NO]),
        _KEYS,
        st.sampled_from([EVERY, EMAIL, PHONE]),
        st.sampled_from(["news", "calls"]),
    )
    | st.builds(lambda day, keys: erased(day, *keys), st.integers(1, 4), _KEYS),
    max_size=9,
)
_SIDES = st.sampled_from([((A,), (B,)), ((A, B), (C,)), ((A,), (B, C))])
some = settings(max_examples=150, deadline=None)


def slow(words: Sequence[Word], keys: Sequence[bytes], purpose: str, channel: int) -> int | None:
    """What holds, by looking at every word for every identity again."""
    strictest: int | None = None
    for key in keys:
        last: Word | None = None
        own = [
            one
            for one in words
            if key in one.identity_keys and (one.erased or one.purpose == purpose)
        ]
        on_channel = any(one.channel == channel for one in own)
        for one in own:
            everywhere = one.channel == EVERY and (one.status == NO or not on_channel)
            if one.channel != channel and not everywhere:
                continue
            later = last is None or one.occurred_at_us > last.occurred_at_us
            stricter = last is not None and one.occurred_at_us == last.occurred_at_us
            if later or (stricter and last is not None and one.status > last.status):
                last = one
        if last is not None and (strictest is None or last.status > strictest):
            strictest = last.status
    return strictest


@some
@given(_WORDS, _SIDES, st.randoms(use_true_random=False))
def test_what_holds_is_what_a_slow_reference_says_in_any_order_and_twice_told(
    words: list[Word], sides: tuple[tuple[bytes, ...], ...], random: object
) -> None:
    keys = sides[0] + sides[1]
    told = words + words
    random.shuffle(told)  # type: ignore[attr-defined]
    found = states(told, *keys)
    assert found == states(words, *keys)
    assert found == {place: slow(words, keys, *place) for place in found}
    said = {
        (w.purpose, w.channel)
        for w in words
        if not (w.erased or set(keys).isdisjoint(w.identity_keys))
    }
    assert set(found) == said


@some
@given(_WORDS, _SIDES)
def test_what_is_looked_up_for_one_channel_is_what_the_list_of_all_says(
    words: list[Word], sides: tuple[tuple[bytes, ...], tuple[bytes, ...]]
) -> None:
    for keys in (*sides, sides[0] + sides[1]):
        for one in standing(words, keys, CONSENT):
            assert holds(words, keys, CONSENT, one.purpose, one.channel) == one


@some
@given(_WORDS, _SIDES)
def test_no_merge_loses_a_restriction_and_an_unmerge_gives_both_back(
    words: list[Word], sides: tuple[tuple[bytes, ...], tuple[bytes, ...]]
) -> None:
    left, right = sides
    before = [standing(words, side, CONSENT) for side in sides]
    merged = states(words, *left, *right)
    for side in before:
        for one in side:
            assert merged[one.purpose, one.channel] >= one.status
    assert [standing(words, side, CONSENT) for side in sides] == before
    for purpose in ("news", "calls"):
        for channel in (EVERY, EMAIL, PHONE):
            both = holds(words, left + right, CONSENT, purpose, channel)
            alone = [holds(words, side, CONSENT, purpose, channel) for side in sides]
            assert all(one is None or (both and both.status >= one.status) for one in alone)


@some
@given(_WORDS, st.data())
def test_erasing_a_word_allows_nothing_but_what_was_allowed_everywhere_since(
    words: list[Word], data: st.DataObject
) -> None:
    gone = data.draw(st.sets(st.sampled_from(words)) if words else st.just(set()))
    left = [
        erased_consent(w.event_id, w.identity_keys, w.occurred_at_us, w.recorded_at_us)
        if w in gone
        else w
        for w in words
    ]
    for purpose in ("news", "calls"):
        for channel in (EVERY, EMAIL, PHONE):
            before = holds(words, [A, B, C], CONSENT, purpose, channel)
            after = holds(left, [A, B, C], CONSENT, purpose, channel)
            if after is None or after.status != YES or (before and before.status == YES):
                continue
            assert any(
                since.status == YES and since.channel == EVERY and since.purpose == purpose
                for one in words
                for since in left
                if one.status == NO and since.occurred_at_us > one.occurred_at_us
            )


def test_a_word_that_was_erased_forbids_until_a_permission_follows() -> None:
    allowed, gone = word(1, YES, A), erased(2, A)
    assert states([allowed, gone], A) == {("news", EVERY): NO}
    assert states([allowed, gone, word(3, YES, A)], A) == {("news", EVERY): YES}
    assert states([allowed, gone, word(3, YES, B)], A, B) == {("news", EVERY): NO}
    assert states([gone], A) == {}
    assert holds([gone], [A], CONSENT, "news", EMAIL) is None


def test_a_withdrawal_that_was_taken_back_everywhere_forbids_no_channel_of_another() -> None:
    said = [word(1, NO, A), word(2, YES, A), word(1, YES, B, channel=EMAIL)]
    assert states(said, A, B) == {("news", EVERY): YES, ("news", EMAIL): YES}


def test_a_withdrawal_is_lifted_under_its_identity_and_not_under_another() -> None:
    withdrawn = word(1, NO, A)
    assert states([withdrawn, word(2, YES, B)], A, B) == {("news", EVERY): NO}
    assert states([withdrawn, word(2, YES, A)], A, B) == {("news", EVERY): YES}
    assert states([withdrawn, word(2, YES, A, B)], A, B) == {("news", EVERY): YES}


def test_an_event_speaks_for_every_identity_that_it_names() -> None:
    both = word(1, NO, A, B)
    assert states([both], A) == states([both], B) == {("news", EVERY): NO}
    assert states([both], C) == {}


def test_the_deciding_word_comes_first_and_what_counts_is_told() -> None:
    old, grant, withdrawal = word(1, YES, A), word(3, YES, A), word(2, NO, B)
    (found,) = standing([old, grant, withdrawal], [A, B], CONSENT)
    assert found.decides is withdrawal
    assert found.words == (withdrawal, grant, old)
    assert found.counting == {grant.event_id, withdrawal.event_id}
    assert found.since_us == 2


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((PREFERENCE_STATUS_PREFERRED, PREFERENCE_STATUS_ACCEPTED), PREFERENCE_STATUS_ACCEPTED),
        ((PREFERENCE_STATUS_AVOIDED, PREFERENCE_STATUS_PREFERRED), PREFERENCE_STATUS_AVOIDED),
    ],
    ids=["accepted before preferred", "avoided before preferred"],
)
def test_of_two_identities_the_stricter_preference_holds(
    statuses: tuple[int, int], expected: int
) -> None:
    said = [
        word(1, statuses[0], A, channel=EMAIL, topic=PREFERENCE),
        word(2, statuses[1], B, channel=EMAIL, topic=PREFERENCE),
    ]
    assert states(said, A, B, topic=PREFERENCE) == {("news", EMAIL): expected}
    assert states(said, A, B) == {}


def test_where_nothing_was_said_of_a_channel_the_word_on_every_channel_counts() -> None:
    def on(channel: Channel.ValueType, *words: Word) -> Standing | None:
        return holds(words, [A, B], CONSENT, "news", channel)

    everywhere, by_mail = word(1, YES, A), word(2, NO, B, channel=EMAIL)
    found = on(PHONE, everywhere)
    assert found is not None
    assert found.status == YES
    found = on(EMAIL, everywhere, by_mail)
    assert found is not None
    assert found.decides is by_mail
    assert on(PHONE, by_mail) is None
