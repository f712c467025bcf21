"""`touchline rejected`: what was rejected and is kept, and getting it onto the line."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf import json_format
from rich.text import Text

from libs.cli.calling import FAILED, connected, console, fail, run_command
from libs.cli.rendering import palette, status, words
from libs.cli.rendering import rejected as rendering
from libs.cli.rendering.verify import progress
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    RejectedEvent,
)
from touchline.ingestion.v1.ingestion_service_pb2 import (
    CorrectRejectedEventRequest,
    DiscardRejectedEventsRequest,
    GetStoreStatusRequest,
    ListRejectedEventsRequest,
    RetriedEvent,
    RetryRejectedEventsRequest,
)

_PAGE: Final = 500
_ON_THE_LINE: Final = (OUTCOME_RECORDED, OUTCOME_DUPLICATE)
_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="Its number in the list.")]

rejected: Final = typer.Typer(
    help="List the events that were rejected; show, retry, correct or discard them."
)


@rejected.callback(invoke_without_command=True)
def list_rejected(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many at most.")] = 50,
) -> None:
    """List the events that were rejected and are kept, with the reasons."""
    if context.invoked_subcommand is not None:
        return

    async def show() -> None:
        async with connected() as client:
            request = ListRejectedEventsRequest(page_size=limit)
            response = await client.ingestion.ListRejectedEvents(request)
        console.print(status.rejected_table(response.rejected_events, now=_now()))

    run_command(show())


@rejected.command("show")
def show_rejected(
    rejected_id: _Id,
    as_json: Annotated[
        bool, typer.Option("--json", help="The event alone, to be corrected in a file.")
    ] = False,
) -> None:
    """Show a rejected event with the rules it breaks beside its fields."""

    async def show() -> None:
        async with connected() as client:
            one = await _find(client, rejected_id)
        if as_json:
            text = json.dumps(rendering.fields_of(one.event), indent=2, ensure_ascii=False)
            console.print(Text(text), soft_wrap=True)
        else:
            console.print(rendering.rejected_event(one, now=_now()))

    run_command(show())


@rejected.command("retry")
def retry_rejected(
    rejected_ids: Annotated[
        list[int] | None, typer.Argument(metavar="ID", help="Their numbers in the list.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are kept.")] = False,
) -> None:
    """Try rejected events again as they are, such as after their type was registered."""
    if bool(rejected_ids) == every:
        raise typer.BadParameter("Name the events, or say --all.")

    async def retry() -> None:
        counts: Counter[int] = Counter()
        still = []
        async with connected() as client:
            total = len(set(rejected_ids or ())) or await _count(client)
            with progress(console, transient=True) as bar:
                task = bar.add_task("retrying", total=total)
                async for one in _retried(client, rejected_ids or []):
                    bar.advance(task)
                    counts[one.verdict.outcome] += 1
                    if one.verdict.outcome not in _ON_THE_LINE:
                        still.append((one.rejected_id, one.verdict))
        console.print(rendering.retried(counts, still))
        if still:
            raise typer.Exit(FAILED)

    run_command(retry())


@rejected.command("correct")
def correct_rejected(
    rejected_id: _Id,
    file: Annotated[
        Path, typer.Argument(metavar="FILE.json", help="The whole event, as `show --json` gives.")
    ],
) -> None:
    """Record a corrected event in place of a rejected one."""
    event = _read_event(file)

    async def correct() -> None:
        request = CorrectRejectedEventRequest(rejected_id=rejected_id, event=event)
        async with connected() as client:
            verdict = (await client.ingestion.CorrectRejectedEvent(request)).verdict
        console.print(rendering.corrected(rejected_id, verdict))
        if verdict.outcome not in _ON_THE_LINE:
            raise typer.Exit(FAILED)

    run_command(correct())


@rejected.command("discard")
def discard_rejected(
    rejected_ids: Annotated[
        list[int], typer.Argument(metavar="ID", help="Their numbers in the list.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Forget rejected events for good."""
    wanted = sorted(set(rejected_ids))
    told = words.count(len(wanted), "rejected event")
    if not yes:
        typer.confirm(f"Forget {told} for good? Nobody can get them back.", abort=True)

    async def discard() -> None:
        discarded = 0
        async with connected() as client:
            for start in range(0, len(wanted), _PAGE):
                request = DiscardRejectedEventsRequest(rejected_ids=wanted[start : start + _PAGE])
                done = await client.ingestion.DiscardRejectedEvents(request)
                discarded += done.discarded_events
        gone = words.count(discarded, "rejected event")
        absent = len(wanted) - discarded
        text = Text(f"{palette.KEPT} discarded {gone}", style=palette.GOOD)
        console.print(text.append(f"; {absent:,} were not there" if absent else "", palette.QUIET))

    run_command(discard())


async def _find(client: Client, rejected_id: int) -> RejectedEvent:
    request = ListRejectedEventsRequest(page_size=_PAGE)
    while True:
        page = await client.ingestion.ListRejectedEvents(request)
        for one in page.rejected_events:
            if one.rejected_id == rejected_id:
                return one
        # They come newest first.
        oldest = page.rejected_events[-1].rejected_id if page.rejected_events else 0
        if not page.next_page_token or oldest < rejected_id:
            fail(f"No rejected event has the number {rejected_id:,}.")
        request.page_token = page.next_page_token


async def _count(client: Client) -> int:
    found = await client.ingestion.GetStoreStatus(GetStoreStatusRequest())
    return found.status.rejected_events


async def _retried(client: Client, rejected_ids: Sequence[int]) -> AsyncIterator[RetriedEvent]:
    starts = range(0, len(rejected_ids), _PAGE) if rejected_ids else (0,)
    for start in starts:
        request = RetryRejectedEventsRequest(rejected_ids=rejected_ids[start : start + _PAGE])
        while True:
            response = await client.ingestion.RetryRejectedEvents(request)
            for one in response.retried_events:
                yield one
            if not response.next_after_rejected_id:
                break
            request.after_rejected_id = response.next_after_rejected_id


def _read_event(file: Path) -> Event:
    try:
        return json_format.Parse(file.read_text("utf-8"), Event())
    except OSError as error:
        raise typer.BadParameter(f"{file} can't be read: {error.strerror}.") from None
    except (ValueError, json_format.ParseError) as error:
        raise typer.BadParameter(f"{file} holds no event: {str(error).rstrip('.')}.") from None


def _now() -> datetime:
    return datetime.now().astimezone()
