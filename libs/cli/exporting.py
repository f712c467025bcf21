"""Writes an export of one customer: lines that a program reads, and a page that a person reads."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from google.protobuf import json_format

from libs.cli.pages.gathered import Gathered
from libs.cli.pages.person import person
from touchline.profile.v1.erasure_pb2 import ExportEnd
from touchline.profile.v1.profile_pb2 import TimelineEntry
from touchline.profile.v1.profile_service_pb2 import ExportProfileResponse

LINES: Final = "export.jsonl"
PAGE: Final = "index.html"
_LENGTH_BYTES: Final = 4


class ExportError(Exception):
    """An export that can't be written, or is not whole, in words for a person."""


class Export:
    """An export that is being written beside its place, and nothing of it is left unless it ends.

    Args:
        place: The directory that is to hold it.
        force: Whether what is in the directory is replaced.
        now: When it is made.

    Raises:
        ExportError: The place is taken.
        OSError: It can't be written there.
    """

    def __init__(self, place: Path, *, force: bool, now: datetime) -> None:
        if place.exists() and (not place.is_dir() or any(place.iterdir())) and not force:
            raise ExportError(f"{place} is there already. Say --force to replace the export in it.")
        if place.exists() and not place.is_dir():
            raise ExportError(f"{place} is a file; name a directory.")
        place.parent.mkdir(parents=True, exist_ok=True)
        self._place = place
        self._now = now
        self._gathered = Gathered()
        self._beside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        self._lines = _private(self._beside / LINES)
        # What happened is read again for the page. The file has no name: it goes by itself.
        self._entries: BinaryIO = tempfile.TemporaryFile(dir=self._beside)  # noqa: SIM115

    def take(self, response: ExportProfileResponse) -> None:
        """Write the lines of some items."""
        for item in response.items:
            kind = item.WhichOneof("item")
            told = json_format.MessageToDict(item, preserving_proto_field_name=True)
            self._lines.write(json.dumps({"kind": kind, **told}, ensure_ascii=False) + "\n")
            self._gathered.take(item, self._now)
            if kind == "entry":
                data = item.entry.SerializeToString()
                self._entries.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)

    def finish(self) -> ExportEnd:
        """Write the page, and put all in its place.

        Raises:
            ExportError: The end has not come: it is not whole.
            OSError: It can't be written there.
        """
        end = self._gathered.end
        if end is None:
            raise ExportError("The export broke off. Nothing was written; ask again.")
        self._lines.close()
        with _private(self._beside / PAGE) as page:
            for part in person(self._gathered, self._read_again(), self._now):
                page.write(part)
        self._entries.close()
        self._move()
        return end

    def close(self) -> None:
        """Remove what did not get to its place."""
        self._lines.close()
        self._entries.close()
        shutil.rmtree(self._beside, ignore_errors=True)

    def _read_again(self) -> Iterator[TimelineEntry]:
        self._entries.seek(0)
        while length := self._entries.read(_LENGTH_BYTES):
            yield TimelineEntry.FromString(self._entries.read(int.from_bytes(length, "big")))

    def _move(self) -> None:
        """Put all in its place at once; into a directory that is not empty, file by file."""
        if not self._place.exists() or not any(self._place.iterdir()):
            self._beside.rename(self._place)
            return
        for name in (LINES, PAGE):
            (self._beside / name).replace(self._place / name)


def _private(path: Path) -> TextIO:
    """Open a new file that its owner alone may read."""
    path.touch(mode=0o600, exist_ok=False)
    return path.open("w", encoding="utf-8", newline="\n")
