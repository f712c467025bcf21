"""A bounded cache: what is used stays, and no more is kept than was allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libs.eventstore.lru import LruCache

keys = st.lists(st.integers(0, 30), max_size=200)
sizes = st.integers(2, 20)


@given(sizes, keys)
def test_it_never_has_more_than_its_size_and_nothing_but_what_was_put(
    size: int, used: list[int]
) -> None:
    cache = LruCache[int, str](size)
    for key in used:
        assert cache.get(key) in (None, str(key))
        cache.put(key, str(key))
        assert cache.get(key) == str(key)
        assert len(list(cache.values())) == len(set(cache.values())) <= size


@given(sizes, keys)
def test_what_was_used_among_the_last_half_of_its_size_is_remembered(
    size: int, used: list[int]
) -> None:
    cache, order = LruCache[int, str](size), list[int]()
    for key in used:
        if cache.get(key) is None:
            cache.put(key, str(key))
        order = [other for other in order if other != key] + [key]
        assert set(map(str, order[-(size // 2) :])) <= set(cache.values())


@given(sizes, keys, st.integers(0, 30))
def test_what_is_forgotten_is_not_remembered(size: int, used: list[int], gone: int) -> None:
    cache = LruCache[int, str](size)
    for key in used:
        cache.put(key, str(key))
    cache.forget(gone)
    assert cache.get(gone) is None
