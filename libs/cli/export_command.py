"""`touchline export`: all there is of one customer, for a program and for a person."""

import signal
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal
from rich.text import Text

from libs.cli.calling import connected, console, fail, run_command
from libs.cli.exporting import LINES, PAGE, Export, ExportError
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering import palette
from libs.cli.rendering.verify import progress
from touchline.profile.v1.erasure_pb2 import ExportEnd
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import ExportProfileRequest


def export(
    identity: Annotated[str, typer.Argument(metavar="IDENTITY", help=FORMS)],
    out: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where to; made, or empty.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the export that is there.")
    ] = False,
) -> None:
    """Write down all there is of one customer: lines for a program, and a page for a person."""
    reference, place = reference_of(identity), out.absolute()

    async def write() -> None:
        end = await _write(reference, place, force=force)
        entries = f"{end.entries:,} {'entry' if end.entries == 1 else 'entries'}"
        told = f"{palette.KEPT} exported {entries}, up to position {end.position:,}"
        console.print(Text(told, style=f"bold {palette.GOOD}"))
        for name, what in ((PAGE, "a page for a person"), (LINES, "lines for a program")):
            size = decimal((place / name).stat().st_size)
            line = Text.assemble(f"  {out / name}", (f"  {what}, {size}", palette.QUIET))
            console.print(line, soft_wrap=True)
        console.print(Text("  only you may read them: all in them is personal", palette.QUIET))

    # Terminated is as interrupted: nothing half-written is left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_command(write())
    except ExportError as error:
        fail(str(error))
    except OSError as error:
        fail(f"The export can't be written to {out}: {error.strerror}.")


async def _write(reference: ProfileReference, place: Path, *, force: bool) -> ExportEnd:
    export = Export(place, force=force, now=datetime.now().astimezone())
    try:
        async with connected() as client:
            with progress(console, "entries", transient=True) as bar:
                task, done, total = bar.add_task("exporting", total=None), 0, 0
                async for part in client.profile.ExportProfile(
                    ExportProfileRequest(profile=reference)
                ):
                    export.take(part)
                    total = max(total, *(item.profile.event_count for item in part.items))
                    done += sum(item.HasField("entry") for item in part.items)
                    # What was retracted is exported, and not counted among a profile's events.
                    bar.update(task, completed=done, total=max(done, total))
                bar.update(task, description="writing the page")
                return export.finish()
    finally:
        export.close()
