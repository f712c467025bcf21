"""The directory that holds one installation's state: its lock, its secrets, who runs on it."""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TextIO

from libs.embedded.errors import HomeBusy, StartFailed, step

SECRETS_FILE: Final = "secrets.json"
LOCK_FILE: Final = "lock"
RUN_FILE: Final = "run.json"


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secrets of one installation, each 64 hexadecimal digits (32 random bytes).

    Attributes:
        postgres_password: Of PostgreSQL's superuser `touchline`.
        nats_store_password: Of the NATS user `store`, who may do everything.
        nats_service_password: Of the NATS user `service`, who can't change streams.
        master_key: Wraps the data keys of all sealed events. Who loses it loses those events.
        identity_secret: Keys the hashes of identities. Who loses it can't find a person again.
        webhook_secret: Those with which webhooks are signed follow from it. Who loses it must tell
            each receiver another one.
    """

    postgres_password: str = field(repr=False)
    nats_store_password: str = field(repr=False)
    nats_service_password: str = field(repr=False)
    master_key: str = field(repr=False)
    identity_secret: str = field(repr=False)
    webhook_secret: str = field(repr=False)


# What a home that an earlier release made may lack: nothing stored depends on it yet.
_ADDED: Final = ("webhook_secret",)


def load_secrets(home: Path) -> Secrets:
    """Reads the secrets of a home; makes them the first time, in a file only its owner may read.

    Whoever runs on the home calls it first, holding the home: a release that needs one more secret
    adds it then.

    Raises:
        StartFailed: The file can't be written or read, or is missing beside data that need it.
    """
    path = home / SECRETS_FILE
    if not path.exists():
        if (home / "postgres").exists():
            raise StartFailed(
                f"read {path}",
                "it is missing, and the data in this home can't be read without it. "
                "Restore it from a backup, or remove the home to start with nothing.",
            )
        with step(f"write {path}"):
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_whole(path, _new_secrets(), overwrite=False)
    try:
        known = json.loads(path.read_text())
        lacking = {name: _new_secret() for name in _ADDED if known and name not in known}
        found = Secrets(**{**known, **lacking})
    except (OSError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}. Restore the file from a backup."
        raise StartFailed(f"read {path}", reason) from error
    if lacking:
        with step(f"write {path}"):
            _write_whole(path, {**known, **lacking}, overwrite=True)
    return found


def _new_secrets() -> dict[str, str]:
    return {field.name: _new_secret() for field in fields(Secrets)}


def _new_secret() -> str:
    return secrets.token_hex(32)


@contextlib.contextmanager
def hold(home: Path) -> Iterator[Path]:
    """Makes sure that one process at a time runs on a home; made, for its owner only, if absent.

    Yields:
        The absolute path of the home.

    Raises:
        HomeBusy: Another process holds it.
        StartFailed: It can't be made, or not be written to.
    """
    home = home.absolute()
    with step(f"open the home {home}"):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The file stays when the lock goes: removing it would let two hold two files of one name.
        lock = (home / LOCK_FILE).open("a+")
    with lock:
        if not _locked(lock):
            lock.seek(0)
            text = lock.read().strip()
            raise HomeBusy(home, int(text) if text.isdigit() else None)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield home
        finally:
            lock.truncate(0)


def _locked(lock: TextIO) -> bool:
    for _ in range(3):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A command that looks whether anything runs (`is_held`) has it for a moment.
            time.sleep(0.05)
        else:
            return True
    return False


def write_run_file(home: Path, run: Mapping[str, Any]) -> None:
    """Writes where the running services can be reached, as JSON, for the commands beside them."""
    _write_whole(home / RUN_FILE, run, overwrite=True)


def read_run_file(home: Path) -> dict[str, Any] | None:
    """Reads what `write_run_file` wrote; None when nothing runs on the home."""
    try:
        run: dict[str, Any] = json.loads((home / RUN_FILE).read_text())
    except FileNotFoundError:
        return None
    return run if is_held(home) else None


def is_held(home: Path) -> bool:
    """Says whether a process runs on the home now."""
    try:
        with (home / LOCK_FILE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _write_whole(path: Path, content: Mapping[str, Any], *, overwrite: bool) -> None:
    """Writes a file so that a reader, or a crash, meets all of it or nothing; mode 0600."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    with fresh.open("w") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    if overwrite:
        fresh.replace(path)
    else:
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
