"""A bounded cache that forgets what was not used for a long time."""

from collections.abc import Iterable
from itertools import chain
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Remembers at most `size` values, and of those used at least the last half as many.

    It keeps a younger and an older half: what is used moves to the younger, and when that is full
    it becomes the older, which is forgotten. That takes two thirds of the memory of an order of all
    values, and of the time. functools.lru_cache can't take a value that was computed elsewhere, nor
    many at once.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Returns what is remembered, or None."""
        value = self._young.get(key)
        if value is None and (value := self._old.pop(key, None)) is not None:
            self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Remembers a value."""
        self._old.pop(key, None)
        self._young[key] = value
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}

    def values(self) -> Iterable[V]:
        """Returns all that is remembered; using none of it."""
        return chain(self._young.values(), self._old.values())

    def forget(self, key: K) -> None:
        """Forgets a value, if it was remembered."""
        self._young.pop(key, None)
        self._old.pop(key, None)
