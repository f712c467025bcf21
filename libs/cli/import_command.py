"""`touchline import`: records the rows of a file, or of a folder of files, as events."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import grpc
import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from libs.cli.calling import addresses
from libs.cli.event_type_commands import TypeFileError, read_type
from libs.cli.importing import (
    FolderStoppedError,
    ImportFileError,
    ImportResult,
    ImportStoppedError,
    Into,
    MappingError,
    StepResult,
    Unresolved,
    checked_steps,
    import_file,
    import_folder,
    load_plan,
    print_summary,
)
from libs.cli.importing.calls import decider, recorder
from libs.cli.importing.summaries import ending_of, print_folder, print_references
from libs.cli.stack import SERVICES
from touchline.client import MAXIMUM_BATCH_EVENTS, Client
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType
from touchline.ingestion.v1.ingestion_service_pb2 import (
    ListCustomEventTypesRequest,
    RegisterCustomEventTypeRequest,
)

COMPLETE: Final = 0
"""Exit code: every row is recorded, now or before."""
INCOMPLETE: Final = 1
"""Exit code: some rows were broken, rejected, in conflict or unresolved."""
UNUSABLE: Final = 2
"""Exit code: a mapping or a file is wrong; nothing was sent."""
UNREACHABLE: Final = 3
"""Exit code: the service failed or does not answer; repeating goes on where it stopped."""
INTERRUPTED: Final = 130
"""Exit code: stopped with Ctrl-C."""


def import_command(
    file: Annotated[
        Path, typer.Argument(help="The file: CSV, JSON lines or columns; or a folder of them.")
    ],
    mapping: Annotated[
        Path,
        typer.Option(help="The mapping, a TOML file; for a folder the folder of its mappings."),
    ],
    live: Annotated[
        bool, typer.Option("--live", help="Let services act on the events as on new ones.")
    ] = False,
    batch: Annotated[
        int, typer.Option(min=1, max=MAXIMUM_BATCH_EVENTS, help="Events per call.")
    ] = MAXIMUM_BATCH_EVENTS,
    unresolved: Annotated[
        Path | None,
        typer.Option(
            help="The list of references that lead nowhere. Left out: NAME.unresolved.csv, here."
        ),
    ] = None,
    anonymised: Annotated[
        str,
        typer.Option(
            metavar="NAMESPACE",
            help="The export is anonymised: emails without @ are external ids of this namespace.",
        ),
    ] = "",
    ingestion: Annotated[
        str | None,
        typer.Option(
            envvar=SERVICES[0].variable,
            help="host:port of the ingestion service, several separated by commas. Left out: the "
            "one that runs here.",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            envvar=SERVICES[1].variable,
            help="host:port of the profile service, which merges. Left out: the one here.",
        ),
    ] = None,
    tenant: Annotated[
        str, typer.Option(envvar="TOUCHLINE_TENANT", help="Whose events they are.")
    ] = "default",
) -> None:
    """Import a file or a folder. Repeating it is safe: nothing is recorded twice."""
    if not (tenant and tenant.isascii() and tenant.isprintable()):
        raise typer.BadParameter("a tenant's name has printable ASCII characters only")
    console = Console()
    known = addresses().services
    importing = _Importing(
        file=file,
        mapping=mapping,
        console=console,
        ingestion=ingestion or known["ingestion"],
        profile=profile or known["profile"],
        tenant=tenant,
        unresolved=unresolved or Path(f"{file.resolve().name}.unresolved.csv"),
        live=live,
        batch=batch,
        anonymised=anonymised,
    )
    try:
        raise typer.Exit(uvloop.run(importing.run()))
    except KeyboardInterrupt:
        _explain(console, "Stopped on request.", repeat=True)
        raise typer.Exit(INTERRUPTED) from None


@dataclass(frozen=True, slots=True)
class _Importing:
    """One call of the command."""

    file: Path
    mapping: Path
    console: Console
    ingestion: str
    profile: str
    tenant: str
    unresolved: Path
    live: bool
    batch: int
    anonymised: str

    async def run(self) -> int:
        """Import, and return the exit code."""
        try:
            async with Client.connect(self.ingestion, self.profile, self.tenant) as client:
                into = Into(
                    recorder(client),
                    self.console,
                    decider(client),
                    live=self.live,
                    batch=self.batch,
                    anonymised=self.anonymised,
                )
                if self.file.is_dir():
                    return await self._folder(client, into)
                return await self._file(into)
        except (MappingError, ImportFileError, TypeFileError) as error:
            _explain(self.console, str(error))
            _explain(self.console, "Nothing was sent.")
            return UNUSABLE

    async def _file(self, into: Into) -> int:
        listed = Unresolved(self.unresolved)
        try:
            result = await import_file(self.file, self.mapping, into, listed)
        except ImportStoppedError as stopped:
            return self._stopped(stopped, stopped.result.recorded)
        print_summary(result, self.console)
        print_references(result.references, listed, self.console)
        return COMPLETE if result.complete else INCOMPLETE

    async def _folder(self, client: Client, into: Into) -> int:
        plan = load_plan(self.mapping)
        types = [read_type(path) for path in plan.types]
        steps = checked_steps(self.file, plan, into)
        listed = Unresolved(self.unresolved)
        try:
            await _register(client, types)
            done = await import_folder(plan, steps, into, listed)
        except FolderStoppedError as stopped:
            return self._stopped(stopped, sum(one.recorded for one in _results(stopped.done)))
        except CallFailed as failed:
            _explain(self.console, _why_stopped(failed, self.ingestion), repeat=True)
            return UNREACHABLE
        print_folder(done, self.console)
        references: Counter[tuple[str, str, str]] = Counter()
        for result in _results(done):
            references.update(result.references)
        print_references(references, listed, self.console, ending_of(done))
        return COMPLETE if all(one.complete for one in _results(done)) else INCOMPLETE

    def _stopped(self, stopped: Exception, recorded: int) -> int:
        if not isinstance(stopped.__cause__, CallFailed):
            raise stopped
        _explain(self.console, _why_stopped(stopped.__cause__, self.ingestion))
        _explain(self.console, f"{recorded:,} rows were recorded.", repeat=True)
        return UNREACHABLE


async def _register(client: Client, types: Sequence[CustomEventType]) -> None:
    """Register the types that are not known by name; one that somebody changed stays."""
    with readable_failures():
        listed = await client.ingestion.ListCustomEventTypes(ListCustomEventTypesRequest())
        known = {one.name for one in listed.event_types}
        for one in types:
            if one.name not in known:
                request = RegisterCustomEventTypeRequest(event_type=one, expected_version=0)
                await client.ingestion.RegisterCustomEventType(request)


def _results(done: Sequence[StepResult]) -> list[ImportResult]:
    return [step.result for step in done if step.result]


def _why_stopped(failed: CallFailed, ingestion: str) -> str:
    if failed.code is grpc.StatusCode.UNAVAILABLE and not failed.reason:
        return f"Nothing answers at {ingestion}. Start the services with `touchline up`."
    return str(failed)


def _explain(console: Console, text: str, *, repeat: bool = False) -> None:
    console.print(f"[red]{escape(text)}[/]", soft_wrap=True, highlight=False)
    if repeat:
        console.print("Repeat the same command to go on: nothing is recorded twice.")
