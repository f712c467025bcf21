"""`touchline backup` and `touchline restore`: all that can't be folded again, out and back in."""

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import TaskID

from libs import backup as backups
from libs.backup import BackupError, KeysManifest, Manifest, Present, Target
from libs.cli.calling import console, fail, program, run_command
from libs.cli.installation import (
    DATABASES,
    migrations,
    running_database,
    secrets_at_hand,
    stopped_database,
)
from libs.cli.rendering import backup as rendering
from libs.cli.rendering.verify import progress
from libs.cli.stack import home_of
from libs.embedded import HomeBusy, StartFailed, forget_feed
from libs.embedded.servers import NATS_URL

_WORTH_A_BAR: Final = 10_000

Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys", metavar="DIRECTORY", help="Where the data keys lie, if not with the rest."
    ),
]
WithoutKeys = Annotated[
    bool, typer.Option("--without-keys", help="Leave the data keys out: nothing opens then.")
]


def backup(
    directory: Annotated[Path, typer.Argument(help="Where to; made, or empty.")],
    keys: Keys = None,
    without_keys: WithoutKeys = False,
) -> None:
    """Back up all that can't be folded again, while everything runs.

    The data keys lie apart, in DIRECTORY/keys or where --keys says, so that they can be kept for
    another time than the events. The secrets of the installation are not in a backup.
    """
    directory = directory.absolute()
    to = _keys_directory(directory, keys, without_keys)

    async def run() -> None:
        home = home_of()
        secrets = secrets_at_hand(home)
        async with running_database(home) as url:
            databases = await backups.present_databases(url, DATABASES)
            with _shown("rows") as show:
                dumped = await backups.dump(
                    databases, directory, keys_directory=to, secrets=secrets, show=show
                )
        place = secrets.place if secrets else None
        console.print(rendering.backed_up(dumped, directory, to, secrets=place))

    _run(run())


def restore(
    directory: Annotated[Path, typer.Argument(help="The backup.")],
    keys: Keys = None,
    without_keys: WithoutKeys = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of a store that has events.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Restore a backup; nothing may run meanwhile.

    The restored store gets a new id. What it replaces is kept under another name.
    """
    directory = directory.absolute()
    kept = _keys_directory(directory, keys, without_keys)
    _run(_restore(directory, kept, replace=replace, yes=yes))


async def _restore(
    directory: Path, keys_directory: Path | None, *, replace: bool, yes: bool
) -> None:
    manifest, keys = _readable(directory, keys_directory)
    home = home_of()
    async with stopped_database(home) as url:
        target = Target(url, DATABASES, migrations())
        present = await backups.look_at(target, manifest.store)
        names = {part.name: DATABASES[part.name] for part in manifest.parts}
        former = await backups.present_databases(url, names)
        now = datetime.now().astimezone()
        console.print(rendering.about_to_restore(manifest, present, former, now=now))
        _agree(manifest, present, replace=replace, yes=yes)
        ours = not os.environ.get(NATS_URL)
        with _shown("rows") as show:
            result = await backups.restore(
                manifest,
                directory,
                keys,
                keys_directory,
                target,
                switching=(lambda: forget_feed(home)) if ours else _leave,
                show=show,
            )
    told = rendering.restored(result, manifest, present, command=program(), feed=ours)
    console.print(told)


def _readable(directory: Path, keys_directory: Path | None) -> tuple[Manifest, KeysManifest | None]:
    """Return what is in a backup that can be restored with this release and these secrets.

    Raises:
        BackupError: it can't be.
    """
    manifest = backups.read_manifest(directory)
    keys = None if keys_directory is None else backups.read_keys_manifest(keys_directory)
    backups.check_schema(manifest, migrations())
    home = home_of()
    secrets = secrets_at_hand(home)
    if secrets is None:
        raise BackupError(
            f"There are no secrets in {home}, and they are not in a backup. Copy the secrets.json "
            f"of the installation that was backed up to {home / 'secrets.json'} first, or set "
            "TOUCHLINE_HOME to where it is. Nothing was changed."
        )
    state = manifest.store
    backups.check_secrets(secrets, state.key_check, state.identity_check)
    if keys is not None:
        backups.check_keys(manifest, keys)
    with _shown("bytes") as show:
        backups.check_files(manifest, directory, keys, keys_directory, show)
    return manifest, keys


def _agree(manifest: Manifest, present: Present | None, *, replace: bool, yes: bool) -> None:
    """Make sure that a store that has events is to be replaced.

    Raises:
        BackupError: it was not said.
        typer.Exit: A person said no.
    """
    if present is None:
        return
    lost = rendering.loss(manifest, present)
    if not replace:
        raise BackupError(
            f"There is a store with events here, and restoring loses {lost}. Say --replace to do "
            "it all the same. Nothing was changed."
        )
    if yes:
        return
    if not sys.stdin.isatty():
        raise BackupError(
            f"Restoring loses {lost}, and nobody is there to ask. Say --yes as well. Nothing was "
            "changed."
        )
    if not typer.confirm("Replace it?"):
        fail("Nothing was changed.")


def _keys_directory(directory: Path, keys: Path | None, without_keys: bool) -> Path | None:
    if keys is not None and without_keys:
        raise typer.BadParameter("--keys and --without-keys exclude each other")
    if keys is not None and keys.absolute() == directory:
        raise typer.BadParameter("the data keys need a directory of their own")
    if without_keys:
        return None
    return keys.absolute() if keys is not None else backups.keys_within(directory)


@contextmanager
def _shown(noun: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each table that takes its time, with rate and time left."""
    tasks: dict[str, TaskID] = {}
    bar = progress(console, noun)

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks and total >= _WORTH_A_BAR:
            bar.start()
            tasks[what] = bar.add_task(what, total=total)
        if what in tasks:
            bar.update(tasks[what], completed=done, total=total)

    try:
        yield show
    finally:
        if tasks:
            bar.stop()


def _leave() -> None:
    """Leave a stream that is not ours."""


def _run(command: Coroutine[Any, Any, None]) -> None:
    try:
        run_command(command)
    except (BackupError, HomeBusy, StartFailed) as error:
        fail(str(error))
