"""The files of a backup: written to the disk before anything says they are there, and checked."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from libs.backup.errors import BackupError

CHUNK_BYTES: Final = 1024 * 1024


class HashedFile:
    """A new file, of which the size and the SHA-256 are known once it is written.

    Args:
        path: Where; nothing may be there.

    Raises:
        BackupError: it can't be written; so do the methods.
    """

    def __init__(self, path: Path) -> None:
        self._directory = path.parent
        self._digest = hashlib.sha256()
        self.size = 0
        with writing(self._directory):
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, content: bytes) -> None:
        """Write more."""
        self._digest.update(content)
        self.size += len(content)
        rest = memoryview(content)
        with writing(self._directory):
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def close(self) -> bytes:
        """Make sure that all of it is on the disk, and return its SHA-256."""
        with writing(self._directory):
            os.fsync(self._file)
            os.close(self._file)
        return self._digest.digest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, meets all of it or nothing; mode 0600."""
    fresh = path.with_name(f".{path.name}.new")
    file = HashedFile(fresh)
    file.write(content)
    file.close()
    with writing(path.parent):
        fresh.replace(path)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make sure that the names in a directory are on the disk."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def make_empty(directory: Path) -> None:
    """Make a directory for its owner only, or take an empty one.

    Raises:
        BackupError: it is not empty, or can't be made.
    """
    if directory.exists() and not directory.is_dir():
        raise BackupError(f"{directory} is no directory. Name another place.")
    with writing(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(directory.iterdir())
    if not empty:
        raise BackupError(
            f"{directory} is not empty, and nothing is overwritten. Name another directory; what "
            "an interrupted backup left behind, without a manifest, may be removed."
        )


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Turn what the operating system refuses into what it means for the backup.

    Raises:
        BackupError: the directory can't be written to.
    """
    try:
        yield
    except OSError as error:
        raise BackupError(
            f"{directory} can't be written to ({error.strerror or type(error).__name__}). What is "
            "there so far is no backup: it has no manifest."
        ) from error


def check_file(path: Path, size: int, sha256: bytes, read: Callable[[int], None]) -> None:
    """Make sure that a file is what was written.

    Args:
        path: The file.
        size: How many bytes it must have.
        sha256: That of its content.
        read: Called with how many bytes were read since the last call.

    Raises:
        BackupError: it is missing, or is not that.
    """
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != size:
            raise BackupError(
                f"{path} has {path.stat().st_size:,} bytes, and {size:,} were written: the backup "
                "is damaged. Nothing was changed."
            )
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                read(len(chunk))
    except OSError as error:
        raise BackupError(
            f"{path} can't be read ({error.strerror or type(error).__name__}): the backup is "
            "incomplete. Nothing was changed."
        ) from error
    if digest.digest() != sha256:
        raise BackupError(
            f"{path} is not what was written: its SHA-256 is another, the backup is damaged. "
            "Nothing was changed."
        )


async def chunks(path: Path) -> AsyncIterator[bytes]:
    """Yield a file piece by piece."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
