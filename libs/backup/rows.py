"""Reads rows from PostgreSQL's binary COPY format as they pass by, and proves the line.

The format: an 11-byte signature, two 32-bit numbers (flags, length of an extension), then for each
row a 16-bit number of fields and for each field its 32-bit length, -1 for NULL, and its bytes; a
row of -1 fields ends it (PostgreSQL's documentation of COPY, "Binary Format").
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from struct import Struct
from typing import Final

from libs.backup.errors import BackupError
from libs.eventstore.chain import GENESIS

_HEADER_BYTES: Final = 19
_FIELDS: Final = Struct(">h")
_LENGTH: Final = Struct(">i")
_POSITION: Final = Struct(">q")
_VERIFY: Final = "The store is damaged: run `touchline verify`."


class RowCounter:
    """Cuts a stream of chunks into rows, and counts them."""

    def __init__(self) -> None:
        self.rows = 0
        self.ended = False
        self._rest = b""
        self._begun = False

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the stream; rows may be cut anywhere."""
        for _ in self._cut(chunk):
            self.rows += 1

    def _cut(self, chunk: bytes) -> Iterator[list[bytes]]:
        """Yield the fields of each row that is whole by now; NULL is empty."""
        data = self._rest + chunk if self._rest else chunk
        start, end = 0, len(data)
        if not self._begun:
            if end < _HEADER_BYTES:
                self._rest = data
                return
            start, self._begun = _HEADER_BYTES, True
        read_fields, read_length = _FIELDS.unpack_from, _LENGTH.unpack_from
        while start + 2 <= end:
            (fields,) = read_fields(data, start)
            if fields < 0:
                self.ended = True
                start = end
                break
            row, at = [], start + 2
            for _ in range(fields):
                if at + 4 > end:
                    break
                (length,) = read_length(data, at)
                at += 4
                if length > 0:
                    if at + length > end:
                        break
                    row.append(data[at : at + length])
                    at += length
                else:
                    row.append(b"")
            else:
                start = at
                yield row
                continue
            break
        self._rest = data[start:]


class LineProof(RowCounter):
    """Proves that rows of `events` are a line: no position is missing, and the chain is whole.

    Args:
        columns: Those of each row, in their order.
        position: Where the line ends.
        chain: That of its end.
    """

    def __init__(self, columns: Sequence[str], position: int, chain: bytes) -> None:
        super().__init__()
        self.position = position
        self._end = chain
        self._chain = GENESIS
        self._places = [columns.index(name) for name in ("position", "content_hash", "chain")]

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the stream.

        Raises:
            BackupError: a position is missing, or the chain is broken.
        """
        at_position, at_hash, at_chain = self._places
        rows, chain = self.rows, self._chain
        for row in self._cut(chunk):
            rows += 1
            if _POSITION.unpack(row[at_position])[0] != rows:
                raise BackupError(f"Event {rows} is missing from the line. {_VERIFY}")
            chain = sha256(chain + row[at_hash]).digest()
            if chain != row[at_chain]:
                raise BackupError(f"The chain of the line is broken at event {rows}. {_VERIFY}")
        self.rows, self._chain = rows, chain

    def check_end(self) -> None:
        """Make sure that the line ends where the head says.

        Raises:
            BackupError: it does not.
        """
        if self.rows != self.position:
            raise BackupError(
                f"The line ends at event {self.rows}, and its head says {self.position}. {_VERIFY}"
            )
        if self._chain != self._end:
            raise BackupError(f"The head's chain is not that of event {self.rows}. {_VERIFY}")
