"""Nothing personal stands in the clear, wherever one looks (invariant 11)."""

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.msg import Msg

from libs.eventstore import store
from libs.eventstore.appender import Appender
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.feed.relay import Relay
from libs.eventstore.server import serve_store
from libs.tasks import running
from services.ingestion.event_types import EventTypes
from services.ingestion.recording import Recorder
from tests.custom_types import ANYTHING, register_anything
from tests.events import OF_SERVICES
from tests.histories import FACTS, fill
from tests.servers import OwnNats, OwnPostgres
from tests.store import DEFAULT, IDENTITY_KEYS, Line, build_store, email, open_line, records_of
from tests.waiting import until
from touchline.events.v1 import identity_pb2
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_CONFLICT,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
)
from touchline.store.v1.store_pb2 import (
    APPEND_OUTCOME_RECORDED,
    AppendEvent,
    AppendRequest,
    AppendUnit,
    EraseRequest,
)

_numbers = count(1)
canaries: list[str] = []


def canary() -> str:
    """A text that occurs nowhere else, and is looked for everywhere."""
    canaries.append(f"Kanarienvogel{next(_numbers):04}")
    return canaries[-1]


def phone() -> str:
    canaries.append(f"+1415555{next(_numbers):04}")
    return canaries[-1]


def identities() -> Iterator[identity_pb2.Identity]:
    for name, kind in identity_pb2.IdentityKind.items():
        match name:
            case "IDENTITY_KIND_UNSPECIFIED" | "IDENTITY_KIND_STREAM":
                continue  # none, and none of a caller's
            case "IDENTITY_KIND_EMAIL":
                value, namespace = f"{canary()}@{canary()}.example", ""
            case "IDENTITY_KIND_PHONE":
                value, namespace = phone(), ""
            case "IDENTITY_KIND_EXTERNAL_ID" | "IDENTITY_KIND_SOCIAL_HANDLE":
                value, namespace = canary(), canary()
            case _:
                value, namespace = canary(), ""
        yield identity_pb2.Identity(kind=kind, namespace=namespace, value=value)


def _leaf(known: FieldDescriptor, path: str) -> Any:
    if known.message_type is not None:
        return Timestamp(seconds=1_700_000_000)
    if known.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        return 1
    if known.type == FieldDescriptor.TYPE_BYTES:
        return "an identity key."
    if path.endswith("currency_code"):
        return "EUR"
    if path in ("event_id", "causation_id", "in_reply_to", "answers", "notification_id"):
        return str(uuid4())
    return canary()


def events_full_of_canaries() -> list[Event]:
    """One event of each type, with a canary in every text."""
    events = []
    for name in FACTS:
        event = Event()
        fill(event, _leaf, lambda: 1)
        event.tenant = "default"
        del event.identities[:]
        event.identities.extend(identities())
        fact: Message = getattr(event, name)
        fact.SetInParent()
        fill(fact, _leaf, lambda: 2)
        if name == "expectation_resolved":
            event.expectation_resolved.ClearField("due_at")
        if name == "notification_decided":
            event.notification_decided.recipient.customer = False
        if name == "custom_event":
            event.custom_event.name = ANYTHING
            event.custom_event.properties_json = f'{{"{canary()}": "{canary()}"}}'
        events.append(event)
    return events


def rejected(event: Event) -> Event:
    bad = Event.FromString(event.SerializeToString())
    bad.identities.append(email(canary()))
    bad.actor.reference = canary() * 20
    bad.event_id = canary()
    return bad


def copy(events: list[Event]) -> list[Event]:
    return [Event.FromString(event.SerializeToString()) for event in events]


def forms(text: str) -> Iterator[bytes]:
    """The forms in which a text could lie about."""
    for one in (text, text.lower(), text.upper(), text[::-1]):
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            yield one.encode(encoding)
    yield text.encode().hex().encode()
    yield text.lower().encode().hex().encode()


def found_in(data: bytes) -> list[str]:
    # All canaries of one kind begin alike: almost always there is nothing to look at closely.
    stems = [form for stem in ("Kanarienvogel", "+1415555", "1415555") for form in forms(stem)]
    if not any(stem in data for stem in stems):
        return []
    return [text for text in canaries if any(form in data for form in forms(text))]


def files_with_canaries(directory: Path) -> dict[str, list[str]]:
    looked_at = 0
    found = {}
    for path in directory.rglob("*"):
        if path.is_file():
            looked_at += 1
            if known := found_in(path.read_bytes()):
                found[str(path.relative_to(directory))] = known
    assert looked_at
    return found


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    text, number = canary(), phone()
    for name, data in {
        "plain": text.encode(),
        "lower": b"\0" + text.lower().encode(),
        "wide": text.encode("utf-16-le"),
        "wide reversed": text[::-1].encode("utf-16-be"),
        "hexadecimal": text.encode().hex().encode(),
        "number": number.encode(),
        "clean": b"Kanarienvogel",
    }.items():
        (tmp_path / name).write_bytes(data)
    found = files_with_canaries(tmp_path)
    assert set(found) == {"plain", "lower", "wide", "wide reversed", "hexadecimal", "number"}


async def record_everything(line: Line, appender: Appender, nats: OwnNats) -> None:
    """Everything that may be done with events: also what fails, and what is asked over NATS."""
    recorder = Recorder(
        line.store,
        appender,
        line.keyring,
        line.kept,
        EventTypes(line.pool, line.keyring, IDENTITY_KEYS),
    )
    await register_anything(recorder, DEFAULT)
    everything = events_full_of_canaries()
    events = [event for event in everything if event.WhichOneof("fact") not in OF_SERVICES]
    bad = [rejected(event) for event in events]
    verdicts = await recorder.record(DEFAULT, copy(events) + copy(bad), "")
    outcomes = [OUTCOME_RECORDED] * len(events) + [OUTCOME_REJECTED] * len(bad)
    assert [verdict.outcome for verdict in verdicts] == outcomes
    changed = copy(events)
    for event in changed:
        event.source = canary()
    again = await recorder.record(DEFAULT, changed, "")
    assert {verdict.outcome for verdict in again} == {OUTCOME_CONFLICT}

    async def append(request: AppendRequest, traceparent: str) -> Any:
        return await recorder.append(DEFAULT, request, traceparent)

    decided = [event for event in everything if event.WhichOneof("fact") in OF_SERVICES]
    units = [AppendUnit(events=[AppendEvent(event=event)]) for event in copy(decided)]
    appended = await append(AppendRequest(tenant="default", units=units), "")
    assert {verdict.outcome for verdict in appended.verdicts} == {APPEND_OUTCOME_RECORDED}

    records = await records_of(line.store)
    async with (
        connect_nats(nats.url, "store") as server,
        serve_store(server, line.store, line.keyring, append, line.erases),
        connect_nats(nats.service_url, "service") as service,
    ):
        client = StoreClient(service)
        keys = {sealed.identity_key for record in records for sealed in record.identities}
        assert await client.data_keys(1, keys)
        assert [event async for event in client.events_of_keys(1, [records[0].owner_key])]
        assert (await client.history(0)).batch.events
        erasure = Erasure(identity_keys=[records[0].owner_key], occurred_before_us=1)
        told = {"reason": canary(), "requested_by": canary()}
        await line.erases(EraseRequest(erasure_id=str(uuid4()), erasure=erasure, **told), "")


async def test_no_text_and_no_identity_is_anywhere_in_the_clear(
    own_postgres: OwnPostgres, nats: OwnNats, capfd: pytest.CaptureFixture[str]
) -> None:
    await build_store(own_postgres.url)
    messages: list[Msg] = []

    async def note(message: Msg) -> None:
        messages.append(message)

    async with (
        open_line(own_postgres.url) as line,
        connect_nats(nats.url, "spy") as spy,
    ):
        await spy.subscribe(">", cb=note)
        relay = Relay(line.pool, line.store, spy, uuid4())
        appender = Appender(line.store, relay.hand_over)
        async with running(relay.run(), appender.run()), store.listen(line.url, relay.wake):
            await until(lambda: relay.state.leads)
            await record_everything(line, appender, nats)
            await until(lambda: relay.state.position == len(FACTS) + 2)  # the type, the erasure
        await spy.flush()
        rows = await _all_rows(own_postgres.url)
    assert len(canaries) > 15 * len(FACTS)
    assert sum(message.subject == "touchline.feed.batches" for message in messages) > 0
    for message in messages:
        everything = f"{message.subject} {message.reply} {message.headers}".encode()
        assert found_in(everything + message.data) == []
    assert found_in(rows) == []
    await nats.stop()
    await own_postgres.stop()
    captured = capfd.readouterr()
    assert found_in(captured.out.encode() + captured.err.encode()) == []
    assert found_in(own_postgres.server.log.read_bytes()) == []
    assert found_in(nats.server.log.read_bytes()) == []
    for directory in (own_postgres.server.data, nats.server.directory):
        assert await asyncio.to_thread(files_with_canaries, directory) == {}


async def _all_rows(url: str) -> bytes:
    """Returns every row of every table as text, after all of it was written to its file."""
    connection = await asyncpg.connect(url)
    await connection.execute("CHECKPOINT")
    tables = await connection.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    texts = []
    for table in tables:
        for (text,) in await connection.fetch(f"SELECT t::text FROM {table['name']} t"):
            texts.append(text)
    await connection.close()
    assert len(texts) > 2 * len(FACTS)
    return "\n".join(texts).encode()
