"""`touchline up`: everything runs until Ctrl-C."""

import asyncio
import signal
from urllib.parse import urlsplit

import typer

from libs.cli.calling import console, fail, run_command
from libs.cli.rendering.logs import log_line
from libs.cli.rendering.startup import started
from libs.cli.stack import home_of, run_stack
from libs.embedded import HomeBusy, StartFailed


def up() -> None:
    """Run the servers and services of a laptop until Ctrl-C, then drain them."""
    try:
        run_command(_run())
    except (HomeBusy, StartFailed) as error:
        fail(str(error))


async def _run() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    home = home_of()
    with console.status("starting PostgreSQL, NATS and the services"):
        stack = run_stack(home, lambda name, line: console.print(log_line(line, name)))
        addresses, endpoints = await stack.__aenter__()
    try:
        shown = {
            "ingestion": addresses.ingestion,
            "profile": addresses.profile,
            "PostgreSQL": _where(endpoints.database_url),
            "NATS": _where(endpoints.nats_url),
        }
        console.print(started(shown, str(home)))
        await stop.wait()
        console.print("draining", style="dim")
    finally:
        await stack.__aexit__(None, None, None)
    raise typer.Exit


def _where(url: str) -> str:
    parts = urlsplit(url.split(",")[0])
    return f"{parts.hostname}:{parts.port}"
