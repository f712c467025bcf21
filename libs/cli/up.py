"""`touchline up`: everything runs until Ctrl-C."""

import asyncio
import re
import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
from rich.text import Text

from libs.cli.calling import console, fail, program, run_command
from libs.cli.finishing import finish_upgrade
from libs.cli.installation import migrations
from libs.cli.rendering import palette
from libs.cli.rendering.logs import NAME_WIDTH, log_line
from libs.cli.rendering.startup import started
from libs.cli.stack import DEFAULTS, SERVICES, home_of, run_stack
from libs.embedded import HomeBusy, StartFailed
from libs.tasks import running

STARTING: Final = f"starting PostgreSQL, NATS, {', '.join(DEFAULTS)}"
"""What a person is told meanwhile."""

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


_LISTEN: Final = {
    one.name: typer.Option(
        envvar=one.variable, help=f"host:port that the {one.name} service listens on."
    )
    for one in SERVICES
}


def up(
    ingestion: Annotated[str, _LISTEN["ingestion"]] = DEFAULTS["ingestion"],
    profile: Annotated[str, _LISTEN["profile"]] = DEFAULTS["profile"],
    engagement: Annotated[str, _LISTEN["engagement"]] = DEFAULTS["engagement"],
    notification: Annotated[str, _LISTEN["notification"]] = DEFAULTS["notification"],
) -> None:
    """Run the servers and services of a laptop until Ctrl-C, then drain them.

    The data is kept in TOUCHLINE_HOME, `.touchline` by default. TOUCHLINE_DATABASE_URL and
    TOUCHLINE_NATS_URL name servers of your own to use instead.
    """
    listen = {
        "ingestion": ingestion,
        "profile": profile,
        "engagement": engagement,
        "notification": notification,
    }
    try:
        run_command(_run(listen))
    except (HomeBusy, StartFailed) as error:
        fail(str(error))


async def _run(listen: Mapping[str, str]) -> None:
    task = asyncio.create_task(_run_until_cancelled(listen))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _stop, task)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _run_until_cancelled(listen: Mapping[str, str]) -> None:
    home, is_up = home_of(), False

    def show(name: str, line: str) -> None:
        # All start at once: that one asks a store which is not there yet is no news.
        if is_up or "StoreUnavailable" not in line:
            show_line(name, line)

    with console.status(STARTING) as starting:
        built: dict[str, str] = {}

        def show_building(name: str, text: str) -> None:
            if name not in built and not console.is_terminal:
                console.print(text, markup=False, soft_wrap=True)  # once: lines can't be changed
            built[name] = text
            starting.update(Text("; ".join(filter(None, built.values())) or STARTING))

        async with run_stack(home, show, listen, on_building=show_building) as stack:
            starting.stop()
            is_up = True
            addresses, endpoints = stack
            shown = {
                **addresses.services,
                "PostgreSQL": _where(endpoints.database_url),
                "NATS": _where(endpoints.nats_url),
            }
            console.print(started(shown, str(home), program()), soft_wrap=True)
            async with running(finish_upgrade(endpoints.database_url, migrations(), show)):
                await asyncio.Event().wait()


def _stop(task: asyncio.Task[None]) -> None:
    # Once: a second Ctrl-C must not cut the draining short, which is bounded anyway.
    if not task.cancelling():
        console.print("draining", style=palette.QUIET)
        task.cancel()


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
        text = Text(f"{moment:%H:%M:%S}  {name:<{NAME_WIDTH}}", style=palette.QUIET)
        line_style = f"not dim {palette.ATTENTION}"
        console.print(text.append(line, style=line_style), soft_wrap=True)
        return
    console.print(log_line(line, name), soft_wrap=True)


def _where(url: str) -> str:
    return ", ".join(urlsplit(one).netloc.rpartition("@")[2] for one in url.split(","))
