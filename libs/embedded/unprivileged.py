"""How programs that refuse to run as root run all the same."""

import os
import pwd
import shutil
from pathlib import Path

from libs.embedded.errors import StartFailed
from libs.embedded.process import Child, RunAs, run


async def how_to_run(program: Path, data: Path) -> RunAs:
    """Says how to run a program that refuses root.

    Not as root: plainly. As root: in a user namespace, where files keep their owners; or as the
    user nobody where the system allows no namespace or the data belong to nobody already.
    """
    if os.geteuid() != 0:
        return "plain"
    if _owner(data) == pwd.getpwnam("nobody").pw_uid:
        return "nobody"
    try:
        await run(Child("probe", (str(program), "--version"), run_as="namespace"), within=10.0)
    except StartFailed:
        return "nobody"
    return "namespace"


def give_to_nobody(*paths: Path) -> None:
    """Gives files of one directory to the user nobody, who may then enter that directory.

    Raises:
        StartFailed: A directory above may not be entered by others.
    """
    home = paths[0].parent
    home.chmod(home.stat().st_mode | 0o011)
    for directory in home.parents:
        if not directory.stat().st_mode & 0o001:
            raise StartFailed(
                f"give {paths[0]} to the user nobody",
                f"this system lets root run PostgreSQL only as nobody, who may not enter "
                f"{directory}. Set TOUCHLINE_HOME to a directory outside it, or run as another "
                "user than root.",
            )
    for path in paths:
        shutil.chown(path, "nobody")


def _owner(path: Path) -> int | None:
    return path.stat().st_uid if path.exists() else None
