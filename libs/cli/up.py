"""`touchline up`: everything runs until Ctrl-C."""

import asyncio
import re
import signal
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from rich.text import Text

from libs.cli.calling import console, fail, program, run_command
from libs.cli.rendering import palette
from libs.cli.rendering.logs import log_line
from libs.cli.rendering.startup import started
from libs.cli.stack import (
    INGESTION,
    INGESTION_VARIABLE,
    PROFILE,
    PROFILE_VARIABLE,
    home_of,
    run_stack,
)
from libs.embedded import HomeBusy, StartFailed

# What PostgreSQL and nats-server tell of their own accord: their log files keep it.
_SMALL_TALK: Final = re.compile(
    r"^\d{4}-\d\d-\d\d [\d:.]+ \S+ \[\d+\] +(?:LOG|DETAIL|HINT|CONTEXT|STATEMENT): "
    # Our own asking whether it answers yet.
    r"|FATAL:  the database system is (?:starting up|not yet accepting connections)"
    r"|^\[\d+\] [\d/]+ [\d:.]+ \[(?:INF|DBG|TRC)\]"
    # Passwords of one machine's own, in a file that only its user may read.
    r"|\[WRN\] Plaintext passwords detected"
)
_SUPERVISOR: Final = re.compile(r"it is started again in |^it runs again")


def up(
    ingestion: Annotated[
        str,
        typer.Option(
            envvar=INGESTION_VARIABLE, help="host:port that the ingestion service listens on."
        ),
    ] = INGESTION,
    profile: Annotated[
        str,
        typer.Option(
            envvar=PROFILE_VARIABLE, help="host:port that the profile service listens on."
        ),
    ] = PROFILE,
) -> None:
    """Run the servers and services of a laptop until Ctrl-C, then drain them.

    The data is kept in TOUCHLINE_HOME, `.touchline` by default. TOUCHLINE_DATABASE_URL and
    TOUCHLINE_NATS_URL name servers of your own to use instead.
    """
    try:
        run_command(_run(ingestion, profile))
    except (HomeBusy, StartFailed) as error:
        fail(str(error))


async def _run(ingestion: str, profile: str) -> None:
    running = asyncio.create_task(_run_until_cancelled(ingestion, profile))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _stop, running)
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


async def _run_until_cancelled(ingestion: str, profile: str) -> None:
    home = home_of()
    with console.status("starting PostgreSQL, NATS, ingestion and profile") as starting:
        async with run_stack(home, show_line, ingestion=ingestion, profile=profile) as stack:
            starting.stop()
            addresses, endpoints = stack
            shown = {"ingestion": addresses.ingestion, "profile": addresses.profile}
            shown |= {"PostgreSQL": _where(endpoints.database_url)}
            shown |= {"NATS": _where(endpoints.nats_url)}
            console.print(started(shown, str(home), program()), soft_wrap=True)
            await asyncio.Event().wait()


def _stop(running: asyncio.Task[None]) -> None:
    # Once: a second Ctrl-C must not cut the draining short, which is bounded anyway.
    if not running.cancelling():
        console.print("draining", style=palette.QUIET)
        running.cancel()


def show_line(name: str, line: str) -> None:
    """Print a log line for people, unless it is a server's small talk.

    Args:
        name: Who wrote it.
        line: As written.
    """
    if not line.strip() or _SMALL_TALK.search(line):
        return
    if _SUPERVISOR.search(line):
        moment = datetime.now().astimezone()
        text = Text(f"{moment:%H:%M:%S}  {name:<12}", style=palette.QUIET)
        line_style = f"not dim {palette.ATTENTION}"
        console.print(text.append(line, style=line_style), soft_wrap=True)
        return
    console.print(log_line(line, name), soft_wrap=True)


def _where(url: str) -> str:
    return ", ".join(urlsplit(one).netloc.rpartition("@")[2] for one in url.split(","))
