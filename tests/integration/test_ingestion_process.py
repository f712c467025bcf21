"""The ingestion service as a process: its logs, its end, and what it says when it can't start."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import nats as nats_py
import pytest

from libs.embedded import Child, Process, create_database, database_url_for, start
from libs.eventstore import api as store_api
from tests.contents import contents
from tests.events import FACTS, an_event
from tests.ingesting import SECRETS, record_batch, status, until_relayed, verified
from tests.ports import free_address
from tests.servers import OwnNats, OwnPostgres
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_DUPLICATE, OUTCOME_RECORDED
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit

ROOT = Path(__file__).parents[2]
CANARIES = ("zaphod", "beeblebrox", "6641234042", "heart of gold")


@dataclass(slots=True)
class ServiceProcess:
    """The service in a process of its own, and every line it wrote."""

    environment: Mapping[str, str]
    lines: list[str] = field(default_factory=list)

    @property
    def listen(self) -> str:
        return self.environment["TOUCHLINE_LISTEN"]

    def child(self, **changes: str) -> Child:
        environment = {**os.environ, **self.environment, **changes}
        return Child(
            name="ingestion",
            argv=(sys.executable, "-m", "services.ingestion"),
            env={name: value for name, value in environment.items() if value},
            cwd=ROOT,
            on_line=lambda _, line: self.lines.append(line),
        )

    async def start(self, **changes: str) -> Process:
        return await start(self.child(**changes), self._serves, within=30)

    async def ends_at_start(self, **changes: str) -> str:
        """What it says instead of starting."""
        process = await start(self.child(**changes))
        await asyncio.wait_for(process.wait(), 30)
        assert process.ended == "it ended with exit status 1"
        return "\n".join(process.lines)

    async def _serves(self) -> bool:
        return any("ingestion serves" in line for line in self.lines)


@pytest.fixture
async def service(own_postgres: OwnPostgres, nats: OwnNats) -> ServiceProcess:
    await create_database(own_postgres.url, "events")
    return ServiceProcess(
        {
            **SECRETS,
            "TOUCHLINE_DATABASE_URL": database_url_for(own_postgres.url, "events"),
            "TOUCHLINE_NATS_URL": nats.url,
            "TOUCHLINE_LISTEN": free_address(),
            "TOUCHLINE_LOG": "json",
            "TOUCHLINE_LOG_LEVEL": "debug",
        }
    )


@asynccontextmanager
async def client_of(service: ServiceProcess) -> AsyncIterator[Client]:
    async with Client.connect(service.listen) as client:
        yield client


def personal(fact: str = "interaction") -> Event:
    """A valid event, with something personal wherever a text may stand."""
    event = an_event(fact, email="Zaphod.Beeblebrox@example.com")
    event.identities.add(kind=3, value="+43 6641234042")
    event.identities.add(kind=1, namespace="crm", value="zaphod-42")
    event.context.location.name = "Heart of Gold"
    event.actor.reference = "zaphod"
    if fact == "interaction":
        event.interaction.text = "Beeblebrox wants the Heart of Gold."
    return event


def wrong_events() -> list[Event]:
    """Personal events, each with another mistake."""
    events = [personal() for _ in range(8)]
    events[0].event_id = "zaphod"
    events[1].tenant = "beeblebrox"
    events[2].identities[0].value = "Zaphod Beeblebrox at example.com"
    events[3].identities[1].value = "6641234042"
    events[4].identities[2].namespace = ""
    events[5].interaction.text = "heart of gold" * 10_000
    events[6].occurred_at.seconds = -1
    events[7].interaction.in_reply_to = "zaphod"
    return events


async def misuse(service: ServiceProcess, client: Client, nats: OwnNats) -> None:
    """Makes every mistake that a caller can make, with personal values in it."""
    await record_batch(client, wrong_events())
    known = personal()
    await record_batch(client, [known, known])
    known.source = "zaphod"
    await record_batch(client, [known])
    with pytest.raises(CallFailed), readable_failures():
        await client.ingestion.ListRejectedEvents(
            api.ListRejectedEventsRequest(page_token="zaphod")
        )
    huge = personal()
    huge.interaction.text = "heart of gold" * 1_000_000
    async with grpc.aio.insecure_channel(service.listen) as channel:
        raw: Any = channel.unary_unary("/touchline.ingestion.v1.IngestionService/RecordEvent")
        for request in (
            b"\xffzaphod",
            api.RecordEventRequest(event=huge).SerializeToString(),
        ):
            with pytest.raises(grpc.aio.AioRpcError):
                await raw(request, metadata=(("traceparent", "zaphod"),))
    connection = await nats_py.connect(nats.url)
    units = [AppendUnit(events=[AppendEvent(event=event)]) for event in wrong_events()]
    for request in (
        b"\xffzaphod",
        AppendRequest(tenant="zaphod", units=units).SerializeToString(),
        AppendRequest(units=units).SerializeToString(),
    ):
        await connection.request(store_api.APPEND, request, timeout=5)
    await connection.close()


async def test_nothing_personal_reaches_a_log_or_a_file_whatever_happens(
    service: ServiceProcess, own_postgres: OwnPostgres, nats: OwnNats
) -> None:
    process = await service.start()
    async with client_of(service) as client:
        await client.record([personal(fact) for fact in FACTS])
        await misuse(service, client, nats)
        await nats.kill()
        await client.record([personal()])
        await nats.start()
        await own_postgres.kill()
        with pytest.raises(CallFailed), readable_failures():
            await record_batch(client, [personal(), *wrong_events()])
        await own_postgres.start()
        await client.record([personal(), *wrong_events()])
        await until_relayed(client, (await status(client)).head_position)
    await process.stop()
    assert process.ended == "it ended with exit status 0"
    await own_postgres.stop()
    await nats.stop()

    log = "\n".join(service.lines).lower()
    for expected in ("ingestion serves", "relay leads", "nats is gone", "ingestion drains"):
        assert expected in log
    kept = [log.encode()]
    kept += [one.read_bytes() for one in own_postgres.server.data.rglob("*") if one.is_file()]
    kept += [one.read_bytes() for one in nats.server.directory.rglob("*") if one.is_file()]
    kept += [own_postgres.server.log.read_bytes(), nats.server.log.read_bytes()]
    assert sum(map(len, kept)) > 20_000_000
    for content in kept:
        lowered = content.lower()
        assert not [canary for canary in CANARIES if canary.encode() in lowered]


async def test_killed_in_the_middle_it_has_lost_nothing_that_it_acknowledged(
    service: ServiceProcess,
) -> None:
    process = await service.start()
    events = [an_event() for _ in range(2000)]
    batches = [events[start : start + 100] for start in range(0, 2000, 100)]
    async with client_of(service) as client:
        calls = [asyncio.ensure_future(record_batch(client, batch)) for batch in batches]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        await process.kill()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        service.lines.clear()
        process = await service.start()
        verdicts = await client.record(events)
        acknowledged = 0
        for start_, answer in zip(range(0, 2000, 100), answers, strict=True):
            if isinstance(answer, BaseException):
                assert isinstance(answer, grpc.aio.AioRpcError)
                continue
            acknowledged += 1
            assert {verdict.outcome for verdict in answer} == {OUTCOME_RECORDED}
            for first, again in zip(answer, verdicts[start_ : start_ + 100], strict=True):
                assert (again.outcome, again.position) == (OUTCOME_DUPLICATE, first.position)
        assert acknowledged
        assert sorted(verdict.position for verdict in verdicts) == list(range(1, 2001))
        whole = await verified(client)
        assert (list(whole.problems), whole.checked_events) == ([], 2000)
    await process.stop()


async def lasting(url: str) -> list[Any]:
    """All that a store holds, but for the lease, which is renewed all the time."""
    relations, rows, *rest = await contents(url)
    tables = [one["name"] for one in relations if one["has_rows"]]
    by_table = dict(zip(tables, rows, strict=True))
    del by_table["public.relay_lease"]
    return [by_table, *rest]


async def test_a_start_that_can_not_be_says_why_and_what_to_do(
    service: ServiceProcess, own_postgres: OwnPostgres
) -> None:
    process = await service.start()
    async with client_of(service) as client:
        await record_batch(client, [personal()])
    url = service.environment["TOUCHLINE_DATABASE_URL"]
    before = await lasting(url)
    taken = await service.ends_at_start()
    assert f"Can't listen on {service.listen}: Address already in use" in taken
    other_key = await service.ends_at_start(TOUCHLINE_MASTER_KEY="00" * 32)
    assert "wrapped by another master key" in other_key
    other_secret = await service.ends_at_start(TOUCHLINE_IDENTITY_SECRET="00" * 32)
    assert "named under another identity secret" in other_secret
    await create_database(own_postgres.url, "elsewhere")
    other_store = await service.ends_at_start(
        TOUCHLINE_DATABASE_URL=database_url_for(own_postgres.url, "elsewhere"),
        TOUCHLINE_LISTEN="127.0.0.1:0",
    )
    assert other_store.splitlines()[-1].startswith("ingestion can't serve: another store, ")
    assert "Correct TOUCHLINE_NATS_URL or TOUCHLINE_DATABASE_URL" in other_store
    no_key = await service.ends_at_start(TOUCHLINE_MASTER_KEY="")
    assert "TOUCHLINE_MASTER_KEY is not set" in no_key
    unreadable = await service.ends_at_start(TOUCHLINE_DATABASE_URL="mysql://u:geheim@h/db")
    assert "correct TOUCHLINE_DATABASE_URL" in unreadable
    wrong_password = await service.ends_at_start(
        TOUCHLINE_DATABASE_URL=service.environment["TOUCHLINE_DATABASE_URL"].replace(
            "touchline:", "touchline:geheim"
        )
    )
    assert "InvalidPasswordError" in wrong_password
    assert await lasting(url) == before
    for said in (taken, other_key, other_secret, no_key, unreadable, wrong_password):
        assert said.splitlines()[-1].startswith("ingestion can't start: ")
        assert "Traceback" not in said
        assert "geheim" not in said
    await process.stop()
