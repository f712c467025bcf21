"""One run: everything up, load and nemesis, everything up again, and then the checker."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.json_format import ParseDict

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from tests.faults import nemesis as nemeses
from tests.faults.checking import Claim, Evidence, check
from tests.faults.cluster import INGESTION, PROJECTING, Cluster, open_cluster
from tests.faults.disk import NO_SMALL_DISK, small_disk
from tests.faults.folding import folded_anew
from tests.faults.history import History
from tests.faults.load import Caller, Load, callers
from tests.faults.reading import head_of, left_waiting, read_feed, read_rows
from tests.faults.report import Figures, Screen, acknowledged_at
from tests.faults.streams import Writer, writers
from touchline.client import Client
from touchline.ingestion.v1.ingestion_service_pb2 import VerifyFeedRequest, VerifyStoreRequest
from touchline.notification.v1.notification_pb2 import RuleDefinition
from touchline.notification.v1.notification_service_pb2 import PublishRuleRequest
from touchline.projection.v1.projection_service_pb2 import (
    ListProjectionsRequest,
    VerifyProjectionRequest,
)

RATE: Final = 250.0
"""Events/s of the load."""

_MOST_EVENTS: Final = 1_000_000
_SETTLES_WITHIN: Final = 150.0
_HALTED_SECONDS: Final = 20.0
_STILL_SECONDS: Final = 4.0
_ANSWERS_WITHIN: Final = 90.0
_RULE: Final = {
    "name": "declined",
    "on": {"types": ["EVENT_TYPE_PAYMENT_ATTEMPTED"]},
    "condition": "event.fact.status == 'declined'",
    "reason": "The payment {{ event.fact.payment_id }} was declined.",
    "notices": [
        {
            "reference": "team:desk",
            "title": "Call back",
            "channels": ["NOTIFICATION_CHANNEL_INBOX"],
        }
    ],
}


class Unsettled(Exception):
    """After the storm it did not come to rest."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run found."""

    claims: list[Claim]
    history: History
    figures: Figures


async def run(seed: int, seconds: float, home: Path, screen: Screen, only: str = "") -> Outcome:
    """Run once on an empty home."""
    history = History.in_file(home / "history.jsonl")
    with small_disk(home / "disk") as disk:
        async with open_cluster(home, disk) as cluster:
            screen.line("everything is up")
            await _publish_rule(cluster)
            try:
                return await _run(seed, seconds, history, cluster, screen, only)
            finally:
                history.close()


async def _run(
    seed: int, seconds: float, history: History, cluster: Cluster, screen: Screen, only: str
) -> Outcome:
    nemesis = nemeses.Nemesis(cluster, random.Random(f"{seed}/nemesis"), screen.fault, only)
    load = Load(history)
    began = time.monotonic()
    async with _under_load(cluster, load, seed, seconds):
        with screen.live(seconds):
            raging = asyncio.create_task(nemesis.run(seconds))
            try:
                await _told(raging, seconds, history, nemesis, screen)
            finally:
                raging.cancel()
                await asyncio.gather(raging, return_exceptions=True)
        ended = time.monotonic()
        screen.line("the storm is over; whatever is down comes up again")
        await cluster.until_serving()
        load.stopped.set()
    screen.line(f"every client has its answers; {len(history.contents):,} ids were sent")
    unsettled = await _settled(cluster, screen)
    evidence = await _read_back(cluster, history, screen)
    evidence.unsettled = unsettled
    skipped = [] if cluster.disk else [NO_SMALL_DISK]
    figures = Figures(
        seed=seed,
        seconds=ended - began,
        faults=nemesis.counts,
        head=evidence.head[0],
        decisions=sum(bool(row.decision) for row in evidence.rows),
        silence=(
            nemeses.longest_silence(acknowledged_at(history), [], began, ended),
            nemeses.longest_silence(acknowledged_at(history), nemesis.happened, began, ended),
        ),
        skipped=skipped,
    )
    return Outcome(await asyncio.to_thread(check, evidence), history, figures)


@asynccontextmanager
async def _under_load(
    cluster: Cluster, load: Load, seed: int, seconds: float
) -> AsyncIterator[None]:
    """Run all clients until the load is stopped and each has its answers."""
    rate = min(RATE, _MOST_EVENTS / seconds)
    started_at = int(time.time())
    async with (
        callers(cluster, load, seed, started_at, rate) as clients,
        AsyncExitStack() as stack,
    ):
        both: list[Caller | Writer] = [
            *clients,
            *await writers(cluster, load, seed, started_at, stack),
        ]
        working = [asyncio.create_task(one.run()) for one in both]
        try:
            yield
            done, late = await asyncio.wait(working, timeout=_ANSWERS_WITHIN)
            for one in done:
                one.result()
            if late:
                raise Unsettled(f"{len(late)} clients got no answer in {_ANSWERS_WITHIN:.0f} s")
        finally:
            load.stopped.set()
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)


async def _told(
    raging: "asyncio.Task[None]",
    seconds: float,
    history: History,
    nemesis: nemeses.Nemesis,
    screen: Screen,
) -> None:
    began, before = time.monotonic(), 0
    while not raging.done():
        await asyncio.wait([raging], timeout=1.0)
        gone = time.monotonic() - began
        rate, before = history.acknowledged - before, history.acknowledged
        left = max(0.0, seconds - gone)
        screen.progress(gone, left, history, rate, len(nemesis.happened))
    raging.result()


async def _publish_rule(cluster: Cluster) -> None:
    request = PublishRuleRequest(
        definition=ParseDict(_RULE, RuleDefinition()), published_by="faults"
    )
    async with _client(cluster) as client:
        await client.notification.PublishRule(request, timeout=60)


async def _settled(cluster: Cluster, screen: Screen) -> list[str]:
    """Wait until the line rests, and every projection and outbox with it; return what does not."""
    screen.line("waiting until every projection has reached the head")
    began = still_since = time.monotonic()
    seen = -1
    while True:
        _, head, _ = await head_of(cluster)
        behind, halted = await _behind(cluster, head)
        waited = time.monotonic() - began
        if head != seen or behind:
            still_since, seen = time.monotonic(), head
        elif time.monotonic() - still_since > _STILL_SECONDS:
            return []
        if waited > _SETTLES_WITHIN or (halted and waited > _HALTED_SECONDS):
            return behind or [f"the line still grows, at {head:,}"]
        await asyncio.sleep(0.5)


async def _behind(cluster: Cluster, head: int) -> tuple[list[str], bool]:
    """Return who is not at the head, and why; and whether one of them has halted."""
    late, halted = [], False
    async with _client(cluster) as client:
        for service in PROJECTING:
            try:
                told = await client.projections[service].ListProjections(
                    ListProjectionsRequest(), timeout=10
                )
            except grpc.aio.AioRpcError as error:
                late.append(f"{service} does not answer: {error.code().name}")
                continue
            halted = halted or any(one.halt_reason for one in told.projections)
            late += [
                " ".join(
                    (f"{service}/{one.name} is at {one.position:,} of {head:,}", one.halt_reason)
                )
                for one in told.projections
                if one.position != head
            ]
    waiting = await left_waiting(cluster)
    late += [f"{name}: {n}" for name, n in waiting.items() if n and "waiting" in name]
    return late, halted


async def _read_back(cluster: Cluster, history: History, screen: Screen) -> Evidence:
    store_id, position, chain = await head_of(cluster)
    async with connect_nats(cluster.nats.url, "faults") as connection:
        store = StoreClient(connection, timeout=30)
        screen.line("reading the store and the feed")
        rows, feed = await read_rows(cluster, store), await read_feed(cluster)
        folding: Callable[[str], None] = lambda what: screen.line(f"folding anew: {what}")  # noqa: E731
        projections = await folded_anew(cluster, store, folding)
    return Evidence(
        history=history,
        store_id=store_id,
        head=(position, chain),
        rows=rows,
        feed=feed,
        projections=projections,
        left=await left_waiting(cluster),
        told=await _verified(cluster, screen),
    )


async def _verified(cluster: Cluster, screen: Screen) -> dict[str, list[str]]:
    """Return what the product's own verification says of each thing."""
    screen.line("asking the product to verify itself")
    found: dict[str, list[str]] = {}
    async with _client(cluster) as client:
        calls = client.ingestion
        found["verify store"] = await _problems(calls.VerifyStore(VerifyStoreRequest()))
        found["verify feed"] = await _problems(calls.VerifyFeed(VerifyFeedRequest()))
        for service in PROJECTING:
            projections = client.projections[service]
            told = await projections.ListProjections(ListProjectionsRequest(), timeout=20)
            for one in told.projections:
                if not one.is_reactor:
                    request = VerifyProjectionRequest(projection=one.name)
                    found[f"verify {service}/{one.name}"] = await _problems(
                        projections.VerifyProjection(request)
                    )
    return found


async def _problems(stream: Any) -> list[str]:
    """Return what a verification ends with."""
    try:
        async for told in stream:
            if not told.finished:
                continue
            if hasattr(told, "problems"):
                return list(told.problems)
            return [
                f"{table.table}: {table.differing_rows} rows differ"
                for table in told.tables
                if table.differing_rows
            ]
    except grpc.aio.AioRpcError as error:
        return [error.details() or error.code().name]
    return ["it ended before it was finished"]


@asynccontextmanager
async def _client(cluster: Cluster) -> AsyncIterator[Client]:
    """Give a client of all services, past the proxies."""
    addresses = cluster.addresses
    async with Client.connect(
        addresses[INGESTION[0]],
        addresses["profile"],
        engagement=addresses["engagement"],
        notification=addresses["notification"],
    ) as client:
        yield client
