"""Notices another store on the same NATS: the two would answer each other's callers, in turn."""

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client as NatsClient

from libs.eventstore import api
from libs.eventstore.errors import AnotherStore
from touchline.store.v1.store_pb2 import GetHeadResponse

_ASK_SECONDS: Final = 2.0
_ANSWERS_SECONDS: Final = 1.0
_FIRST_LOOK_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 10.0
# The service protocol of NATS (ADR-32): every instance answers, and says what it is.
_INFO: Final = f"$SRV.INFO.{api.SERVICE}"
_STORE, _SINCE = "store_id", "since_us"
_log = structlog.get_logger("store-api")


@dataclass(frozen=True, slots=True, order=True)
class Presence:
    """A process that answers the store's API: since when, and for which store."""

    since_us: int
    store_id: str

    @property
    def metadata(self) -> dict[str, str]:
        """What the process tells whoever asks NATS for services."""
        return {_STORE: self.store_id, _SINCE: str(self.since_us)}


def present(store_id: bytes) -> Presence:
    """Return what this process, which answers from now on, is to others."""
    return Presence(time.time_ns() // 1000, store_id.hex())


async def refuse_if_taken(connection: NatsClient, store_id: bytes) -> None:
    """Make sure that no other store answers already.

    Nobody, or somebody who is frozen, says nothing against it.

    Raises:
        AnotherStore: one does; nothing was changed.
    """
    try:
        answer = await connection.request(api.HEAD, b"", timeout=_ASK_SECONDS)
        head = GetHeadResponse.FromString(answer.data)
    except (TimeoutError, nats.errors.Error, DecodeError):
        return
    if head.store_id and head.store_id != store_id:
        raise _another(head.store_id.hex(), store_id.hex())


async def watch_for_others(connection: NatsClient, mine: Presence) -> None:
    """Look for other stores now and then, for ever: two may have started at one moment.

    Raises:
        AnotherStore: one answers that came first. The one that came last has to go, so that a
            mistake elsewhere ends no store that serves.
    """
    await asyncio.sleep(_FIRST_LOOK_SECONDS)
    while True:
        others = [one for one in await _presences(connection) if one.store_id != mine.store_id]
        if others and min(others) < mine:
            raise _another(min(others).store_id, mine.store_id)
        for other in others:
            _log.error(
                "another store answers on this NATS, and has to end",
                store_id=other.store_id,
                mine=mine.store_id,
            )
        await asyncio.sleep(_LOOK_SECONDS)


async def _presences(connection: NatsClient) -> list[Presence]:
    """Return all processes that answer the store's API and say for which store."""
    found: list[Presence] = []
    inbox = connection.new_inbox()
    end = time.monotonic() + _ANSWERS_SECONDS
    with suppress(TimeoutError, nats.errors.Error):  # all have answered, or NATS is away
        answers = await connection.subscribe(inbox)
        try:
            await connection.publish(_INFO, b"", reply=inbox)
            while (left := end - time.monotonic()) > 0:
                answer = await answers.next_msg(timeout=left)
                # Whatever else may answer must not end a store that serves.
                with suppress(ValueError, TypeError, LookupError, AttributeError):
                    told = json.loads(answer.data)["metadata"]
                    found.append(Presence(int(told[_SINCE]), str(told[_STORE])))
        finally:
            await answers.unsubscribe()
    return found


def _another(theirs: str, mine: str) -> AnotherStore:
    return AnotherStore(
        f"another store, {theirs}, answers on this NATS; this one is {mine}. Two stores behind one "
        "NATS would answer each other's callers. Correct TOUCHLINE_NATS_URL or "
        "TOUCHLINE_DATABASE_URL, or end the other one; nothing was changed."
    )
