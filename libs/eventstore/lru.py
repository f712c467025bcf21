"""A bounded cache that forgets what was not used for the longest time."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Remembers the last `size` values that were used.

    functools.lru_cache can't take a value that was computed elsewhere, nor many at once.
    """

    __slots__ = ("_size", "_values")

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """Returns what is remembered, or None."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Remembers a value."""
        self._values[key] = value
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def values(self) -> Iterable[V]:
        """Returns all that is remembered; using none of it."""
        return self._values.values()

    def forget(self, key: K) -> None:
        """Forgets a value, if it was remembered."""
        self._values.pop(key, None)
