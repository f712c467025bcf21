"""How synchronous recorders reach the line of the asynchronous service they run in."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import uuid4

import asyncpg
from eventsourcing.persistence import OperationalError, ProgrammingError

from libs.eventstore.client import StoreClient
from libs.identity.keys import IdentityKeys
from libs.rpc.tenants import Tenant

LINE: Final = "AGGREGATES_LINE"
_MODULE: Final = "libs.eventstore.aggregates"

Answer = TypeVar("Answer")
Applications = TypeVar("Applications")


@dataclass(frozen=True, slots=True)
class Line:
    """One tenant's share of the line, as a running service sees it.

    Attributes:
        client: Asks the store.
        tenant: Whose aggregates they are.
        keys: Names that tenant's streams.
        loop: The service's event loop, on which the client lives.
        pool: The service's own database, for tracking; None when it tracks nothing.
    """

    client: StoreClient
    tenant: Tenant
    keys: IdentityKeys
    loop: asyncio.AbstractEventLoop
    pool: asyncpg.Pool | None

    def start(self, work: Coroutine[Any, Any, Answer]) -> Future[Answer]:
        """Start work on the service's loop, in the caller's context (and so in its trace).

        Raises:
            OperationalError: the service has stopped.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError as error:
            work.close()
            raise OperationalError("the service that lent its line has stopped") from error

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Do work on the service's loop, and wait for it.

        Raises:
            ProgrammingError: called on that loop, which would wait for itself for ever.
            OperationalError: the service stopped.
        """
        if _current_loop() is self.loop:
            work.close()
            raise ProgrammingError(
                "an application was called on the service's event loop; "
                "call it from a thread, as by asyncio.to_thread"
            )
        try:
            return self.start(work).result()
        except CancelledError as error:
            raise OperationalError("the service that lent its line stops") from error


def _current_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_lent: Final[dict[str, Line]] = {}


@contextmanager
def lend(
    client: StoreClient, tenant: Tenant, keys: IdentityKeys, pool: asyncpg.Pool | None = None
) -> Iterator[dict[str, str]]:
    """Lend the running loop's line to applications, until the block ends.

    The library makes its factories from an environment of strings, so a name in it stands for what
    can't be one.

    Args:
        client: Asks the store; made on the running loop.
        tenant: Whose aggregates the applications have.
        keys: Names that tenant's identities.
        pool: The service's own database with this module's MIGRATIONS, for views that track.

    Yields:
        The environment for applications: `Application(env=environment)`.
    """
    name = str(uuid4())
    _lent[name] = Line(client, tenant, keys, asyncio.get_running_loop(), pool)
    try:
        yield {"PERSISTENCE_MODULE": _MODULE, LINE: name}
    finally:
        del _lent[name]


@contextmanager
def lend_to_each(
    client: StoreClient,
    tenants: Iterable[Tenant],
    keys: Mapping[int, IdentityKeys],
    make: Callable[[dict[str, str]], Applications],
) -> Iterator[dict[int, Applications]]:
    """Lend the running loop's line to applications of every tenant, until the block ends.

    Args:
        client: Asks the store; made on the running loop.
        tenants: Whose aggregates the applications have.
        keys: By tenant number; they name that tenant's identities.
        make: Makes a tenant's applications of the environment for them.

    Yields:
        The applications, by tenant number.
    """
    with ExitStack() as stack:
        yield {
            one.number: make(stack.enter_context(lend(client, one, keys[one.number])))
            for one in tenants
        }


def borrowed(name: str | None) -> Line:
    """Return the line that an environment names.

    Raises:
        ProgrammingError: it names none that is lent now.
    """
    line = _lent.get(name or "")
    if line is None:
        raise ProgrammingError(
            f"{LINE} names no line that is lent now; "
            "make the application inside of `lend`, with the environment that it yields"
        )
    return line
