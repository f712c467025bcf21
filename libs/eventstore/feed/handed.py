"""What this process appended and the relay has not published, so that it need not be read back."""

from collections import deque
from typing import Final

from libs.eventstore.chain import Head
from libs.eventstore.store import Appended, pack
from touchline.store.v1.store_pb2 import EventBatch

# More are read back from the store instead.
_HANDED_EVENTS: Final = 10_000
_HANDED_BYTES: Final = 64 * 1024 * 1024
_MERGED_BYTES: Final = 384 * 1024


class Handed:
    """Appends in the order of the line, with gaps where other processes appended."""

    def __init__(self) -> None:
        self._appends: deque[Appended] = deque()
        self._events = 0
        self._bytes = 0

    def add(self, appended: Appended) -> None:
        """Keep an append; past ten thousand events, or 64 MiB, the older ones are forgotten."""
        self._count(appended, 1)
        if self._events > _HANDED_EVENTS or self._bytes > _HANDED_BYTES:
            self._appends.clear()
            self._events = self._bytes = 0
            self._count(appended, 1)
        self._appends.append(appended)

    def _count(self, appended: Appended, sign: int) -> int:
        size = _size(appended)
        self._events += sign * len(appended.rows)
        self._bytes += sign * size
        return size

    def after(self, end: Head) -> EventBatch | None:
        """Take out what comes next on the line, small appends merged; None: it is not here."""
        batch: EventBatch | None = None
        size = 0
        while self._appends:
            appended = self._appends[0]
            position = end.position if batch is None else batch.last
            if appended.previous_position > position:
                break  # something in between was appended elsewhere: read it from the store
            self._appends.popleft()
            added = self._count(appended, -1)
            if appended.previous_position < position:
                continue  # it is on the feed already
            packed = pack(end.store_id, appended)
            size += added
            if batch is None and len(packed) == 1:
                batch = packed[0]
            elif batch is not None and len(packed) == 1 and size < _MERGED_BYTES:
                batch.events.extend(packed[0].events)
                batch.last, batch.chain = packed[0].last, packed[0].chain
            else:
                self._appends.appendleft(appended)
                self._count(appended, 1)
                break
        return batch


def _size(appended: Appended) -> int:
    return sum(len(row.record) for row in appended.rows)
