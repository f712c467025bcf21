"""How commands find and call the running services."""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import typer
import uvloop
from rich.console import Console
from rich.text import Text

from libs.cli.stack import CHECKOUT, SERVICES, Addresses, home_of
from libs.embedded import read_run_file
from libs.embedded.servers import NATS_URL
from libs.rpc.tenants import DEFAULT_TENANT
from touchline.client import Client
from touchline.failures import CallFailed, readable_failures

FAILED: Final = 1
"""Exit code: what was asked could not be done, or does not hold."""
UNREACHABLE: Final = 3
"""Exit code: nothing answers. 2 is that of a wrong command line."""
INTERRUPTED: Final = 130
"""Exit code: stopped with Ctrl-C."""

_LISTENS_SECONDS: Final = 0.5
# A person sees soon that nothing answers, and what to do.
_PATIENCE: Final = 2.0
_NOT_FOUND: Final = "No customer is known by that."

console: Final = Console(highlight=False)
errors: Final = Console(stderr=True, highlight=False)


def addresses() -> Addresses:
    """Return where the services answer.

    TOUCHLINE_INGESTION and its like, and TOUCHLINE_NATS_URL, say it; otherwise what `touchline up`
    wrote down, otherwise the ports it takes by default.
    """
    run = read_run_file(home_of()) or {}
    services = {
        one.name: os.environ.get(one.variable) or run.get(one.name, one.listen) for one in SERVICES
    }
    return Addresses(services, nats_url=os.environ.get(NATS_URL) or run.get("nats", ""))


@asynccontextmanager
async def connected(
    to: Addresses | None = None, tenant: str | None = None
) -> AsyncIterator[Client]:
    """Give a client of the running services.

    Args:
        to: Where they answer; left out: as `addresses` says.
        tenant: Whose data; left out: the tenant of TOUCHLINE_TENANT.

    Raises:
        CallFailed: A call in the block failed.
    """
    at = (to or addresses()).services
    tenant = tenant or os.environ.get("TOUCHLINE_TENANT") or DEFAULT_TENANT
    async with Client.connect(
        at["ingestion"],
        at["profile"],
        tenant,
        engagement=at["engagement"],
        notification=at["notification"],
        patience=_PATIENCE,
    ) as client:
        with readable_failures():
            yield client


def program() -> str:
    """Return how a person in this directory calls the `touchline` command."""
    ours = CHECKOUT / "bin" / "touchline"
    if shutil.which("touchline"):
        return "touchline"
    return str(ours.relative_to(Path.cwd()) if ours.is_relative_to(Path.cwd()) else ours)


def run_command(command: Coroutine[Any, Any, None]) -> None:
    """Run a command; a failed call ends it with a message and an exit code, not a traceback."""
    try:
        uvloop.run(command)
    except CallFailed as failed:
        if failed.code is grpc.StatusCode.UNAVAILABLE and not failed.reason:
            fail_unreachable()
        fail(_NOT_FOUND if failed.reason == "PROFILE_NOT_FOUND" else str(failed))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def fail_unreachable() -> NoReturn:
    """Say what does not answer and how to change that, and end the command.

    Raises:
        typer.Exit: Always.
    """
    services = addresses().services
    silent = [one for one in SERVICES if not _listens(services[one.name])] or SERVICES
    names = " and ".join(one.name for one in silent)
    who = f"{names} {'does' if len(silent) == 1 else 'do'} not answer"
    places = ", ".join(services[one.name] for one in silent)
    variables = ", ".join(one.variable for one in silent)
    fail(
        f"{'No service answers' if len(silent) == len(SERVICES) else who} at {places}. "
        f"Start them with `{program()} up`, or set {variables} to where they are.",
        UNREACHABLE,
    )


def _listens(addresses: str) -> bool:
    """Tell whether somebody listens at one of the addresses, which commas separate."""
    return any(_listens_at(address.strip()) for address in addresses.split(","))


def _listens_at(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Say what went wrong and end the command.

    Raises:
        typer.Exit: Always.
    """
    errors.print(Text(text, style="red"), soft_wrap=True)
    raise typer.Exit(code)
