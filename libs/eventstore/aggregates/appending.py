"""Appends an aggregate's save: one unit, all or nothing, at most once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from eventsourcing.persistence import (
    DatabaseError,
    DataError,
    IntegrityError,
    InternalError,
    OperationalError,
)

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken, StoreError, StoreFull, StoreUnavailable
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_CONFLICT,
    APPEND_OUTCOME_DUPLICATE,
    APPEND_OUTCOME_ERASED,
    APPEND_OUTCOME_RECORDED,
    APPEND_OUTCOME_REJECTED,
    APPEND_OUTCOME_VERSION_TAKEN,
    AppendEvent,
    AppendRequest,
    AppendResponse,
    AppendUnit,
    AppendVerdict,
)

MAX_EVENTS: Final = 1000
# Long enough for a new leader of NATS or a restart of ingestion's pod to pass unnoticed.
_PAUSES_SECONDS: Final = (0.1, 0.5, 2.0)
_THERE: Final = (APPEND_OUTCOME_RECORDED, APPEND_OUTCOME_DUPLICATE)


@asynccontextmanager
async def persistence_errors() -> AsyncIterator[None]:
    """Turn the store's errors into those that the library's callers know.

    Raises:
        OperationalError: the store can't be reached, or its disk is full.
        InternalError: what the store holds was changed.
        DatabaseError: anything else the store answers.
    """
    try:
        yield
    except (StoreUnavailable, StoreFull) as error:
        raise OperationalError(str(error)) from error
    except SealBroken as error:
        raise InternalError(str(error)) from error
    except StoreError as error:
        raise DatabaseError(str(error)) from error


async def append_unit(
    client: StoreClient, tenant: str, entries: Sequence[AppendEvent]
) -> list[int]:
    """Append events as one unit, and return their positions.

    What is not answered is asked again with the same event ids, so that it is recorded once.

    Raises:
        IntegrityError: another writer has one of the versions.
        DataError: there are too many events for one save, or the store does not take one of them.
        StoreUnavailable: whether they were recorded is not known.
        StoreError: nothing was recorded.
    """
    if len(entries) > MAX_EVENTS:
        raise DataError(f"a save has at most {MAX_EVENTS} events, not {len(entries)}; split it")
    request = AppendRequest(tenant=tenant, units=[AppendUnit(events=entries)])
    answer = await _persistently(client, request)
    for entry, verdict in zip(entries, answer.verdicts, strict=True):
        _raise_if_refused(entry, verdict)
    if any(verdict.outcome not in _THERE for verdict in answer.verdicts):
        raise InternalError("the store refused a save and did not say why")
    return [verdict.position for verdict in answer.verdicts]


async def _persistently(client: StoreClient, request: AppendRequest) -> AppendResponse:
    for pause in _PAUSES_SECONDS:
        try:
            return await client.append(request)
        except StoreUnavailable:
            await asyncio.sleep(pause)
    return await client.append(request)


def _raise_if_refused(entry: AppendEvent, verdict: AppendVerdict) -> None:
    if verdict.outcome == APPEND_OUTCOME_VERSION_TAKEN:
        raise IntegrityError(
            f"another writer has version {entry.stream_version} of the aggregate; "
            "load it again, and decide again"
        )
    if verdict.outcome == APPEND_OUTCOME_CONFLICT:
        raise IntegrityError(f"another event has the event id {entry.event.event_id}")
    if verdict.outcome in (APPEND_OUTCOME_REJECTED, APPEND_OUTCOME_ERASED):
        raise DataError(f"the store does not take the event: {verdict.detail}")
