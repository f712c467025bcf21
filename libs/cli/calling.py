"""How commands find and call the running services."""

import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import typer
import uvloop
from rich.console import Console
from rich.text import Text

from libs.cli.stack import INGESTION, PROFILE, Addresses, home_of
from libs.embedded import read_run_file
from touchline.client import Client
from touchline.failures import CallFailed, readable_failures

FAILED: Final = 1
UNREACHABLE: Final = 3

console: Final = Console(highlight=False)
errors: Final = Console(stderr=True, highlight=False)


def addresses() -> Addresses:
    """Return where the services answer.

    TOUCHLINE_INGESTION, TOUCHLINE_PROFILE and TOUCHLINE_NATS_URL say it; otherwise what
    `touchline up` wrote down, otherwise the ports it takes by default.
    """
    run = read_run_file(home_of()) or {}
    return Addresses(
        ingestion=os.environ.get("TOUCHLINE_INGESTION") or run.get("ingestion", INGESTION),
        profile=os.environ.get("TOUCHLINE_PROFILE") or run.get("profile", PROFILE),
        nats_url=os.environ.get("TOUCHLINE_NATS_URL") or run.get("nats", ""),
    )


@asynccontextmanager
async def connected(to: Addresses | None = None) -> AsyncIterator[Client]:
    """Give a client of the running services, for the tenant of TOUCHLINE_TENANT."""
    to = to or addresses()
    tenant = os.environ.get("TOUCHLINE_TENANT", "default")
    async with Client.connect(to.ingestion, to.profile, tenant) as client:
        with readable_failures():
            yield client


def run_command(command: Coroutine[Any, Any, None]) -> None:
    """Run a command; a failed call ends it with a message and an exit code, not a traceback."""
    try:
        uvloop.run(command)
    except CallFailed as failed:
        unreachable = failed.code is grpc.StatusCode.UNAVAILABLE and not failed.reason
        text = "No service answers. Start them with `touchline up`." if unreachable else str(failed)
        fail(text, UNREACHABLE if unreachable else FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(text: str, code: int = FAILED) -> None:
    """Say what went wrong and end the command.

    Raises:
        typer.Exit: Always.
    """
    errors.print(Text(text, style="red"), soft_wrap=True)
    raise typer.Exit(code)
