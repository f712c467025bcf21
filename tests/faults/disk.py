"""A disk that can be full: a file system in memory whose size is changed while it is used."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NO_SMALL_DISK: Final = (
    "no disk was full: a small file system can't be mounted here; it takes root with "
    "CAP_SYS_ADMIN, or a user namespace"
)

_LARGE: Final = "6g"
_ATTEMPTS: Final = 20
_STEP_KB: Final = 256
_INSIDE: Final = "TOUCHLINE_FAULTS_INSIDE"
_NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--mount")


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system.

    Attributes:
        place: Where it is mounted.
    """

    place: Path

    def fill(self, leaving_kb: int) -> None:
        """Leave so many KiB of it free."""
        # What is written while this looks makes the size too small, and it is refused.
        for attempt in range(_ATTEMPTS):
            space = os.statvfs(self.place)
            used = (space.f_blocks - space.f_bfree) * space.f_frsize // 1024
            if self._resized(f"{used + leaving_kb + attempt * _STEP_KB}k"):
                return
        raise OSError(f"{self.place} is written faster than it can be made small")

    def free(self) -> None:
        """Make it large again."""
        if not self._resized(_LARGE):
            raise OSError(f"{self.place} can't be made large again")

    def _resized(self, size: str) -> bool:
        command = ["mount", "-o", f"remount,size={size}", "tmpfs", str(self.place)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


def enter_namespace() -> None:
    """Start this program again where it may mount, unless it may here or nowhere.

    Root may, where it has CAP_SYS_ADMIN. Anybody else may in a user namespace of its own, where the
    system allows one: no file outside changes hands.
    """
    if os.environ.get(_INSIDE) or os.geteuid() == 0 or not shutil.which("unshare"):
        return
    mount = "mount -t tmpfs tmpfs /mnt && exec"
    probe = [*_NAMESPACE, "sh", "-c", f'{mount} "$0" --version', sys.executable]
    if subprocess.run(probe, check=False, capture_output=True).returncode == 0:
        os.environ[_INSIDE] = "1"
        again = (*_NAMESPACE, sys.executable, "-m", "tests.faults", *sys.argv[1:])
        os.execvp(again[0], again)


@contextmanager
def small_disk(place: Path) -> Iterator[Disk | None]:
    """Mount a disk on a new directory until the block ends; None where that is not allowed."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_LARGE},mode=755", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        yield None
        return
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)
