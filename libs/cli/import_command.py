"""`touchline import`: records the rows of a file as events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import grpc
import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from libs.cli.calling import addresses
from libs.cli.importing import (
    ImportFileError,
    ImportStoppedError,
    MappingError,
    Record,
    import_file,
    print_summary,
)
from libs.cli.stack import SERVICES
from touchline.client import MAXIMUM_BATCH_EVENTS, Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Verdict

COMPLETE: Final = 0
"""Exit code: every row is recorded, now or before."""
INCOMPLETE: Final = 1
"""Exit code: some rows were broken, rejected or in conflict."""
UNUSABLE: Final = 2
"""Exit code: the mapping or the file is wrong; nothing was sent."""
UNREACHABLE: Final = 3
"""Exit code: the service failed or does not answer; repeating goes on where it stopped."""
INTERRUPTED: Final = 130
"""Exit code: stopped with Ctrl-C."""

_FIRST_PATIENCE = 3.0
_PATIENCE = 60.0


def import_command(
    file: Annotated[Path, typer.Argument(help="The file: CSV, JSON lines or columns.")],
    mapping: Annotated[Path, typer.Option(help="The mapping, a TOML file.")],
    live: Annotated[
        bool, typer.Option("--live", help="Let services act on the events as on new ones.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, max=MAXIMUM_BATCH_EVENTS, help="Events per call.")
    ] = MAXIMUM_BATCH_EVENTS,
    ingestion: Annotated[
        str | None,
        typer.Option(
            envvar=SERVICES[0].variable,
            help="host:port of the ingestion service, several separated by commas. Left out: the "
            "one that runs here.",
        ),
    ] = None,
    tenant: Annotated[
        str, typer.Option(envvar="TOUCHLINE_TENANT", help="Whose events they are.")
    ] = "default",
) -> None:
    """Import a file. Repeating it is safe: what is recorded is never recorded twice."""
    if not (tenant and tenant.isascii() and tenant.isprintable()):
        raise typer.BadParameter("a tenant's name has printable ASCII characters only")
    console = Console()
    to = ingestion or addresses().services["ingestion"], tenant
    importing = _imported(file, mapping, console, live=live, batch=batch, to=to)
    try:
        raise typer.Exit(uvloop.run(importing))
    except KeyboardInterrupt:
        _explain(console, "Stopped on request.", repeat=True)
        raise typer.Exit(INTERRUPTED) from None


async def _imported(
    file: Path, mapping: Path, console: Console, *, live: bool, batch: int, to: tuple[str, str]
) -> int:
    ingestion, tenant = to
    try:
        async with Client.connect(ingestion=ingestion, tenant=tenant) as client:
            result = await import_file(
                file, mapping, _recorder(client), live=live, batch=batch, console=console
            )
    except (MappingError, ImportFileError) as error:
        _explain(console, str(error))
        _explain(console, "Nothing was sent.")
        return UNUSABLE
    except ImportStoppedError as stopped:
        if not isinstance(stopped.__cause__, CallFailed):
            raise
        _explain(console, _why_stopped(stopped.__cause__, ingestion))
        _explain(console, f"{stopped.result.recorded:,} rows were recorded.", repeat=True)
        return UNREACHABLE
    print_summary(result, console)
    return COMPLETE if result.complete else INCOMPLETE


def _recorder(client: Client) -> Record:
    """Return what records: patient with a service that answered before, impatient at first."""
    patience = _FIRST_PATIENCE

    async def record(events: Sequence[Event]) -> Sequence[Verdict]:
        nonlocal patience
        verdicts = await client.record(events, patience=patience)
        patience = _PATIENCE
        return verdicts

    return record


def _why_stopped(failed: CallFailed, ingestion: str) -> str:
    if failed.code is grpc.StatusCode.UNAVAILABLE and not failed.reason:
        return f"Nothing answers at {ingestion}. Start the services with `touchline up`."
    return str(failed)


def _explain(console: Console, text: str, *, repeat: bool = False) -> None:
    console.print(f"[red]{escape(text)}[/]", soft_wrap=True, highlight=False)
    if repeat:
        console.print("Repeat the same command to go on: nothing is recorded twice.")
