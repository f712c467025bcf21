"""Recording: an event's id is kept for ever, and a bad event never fails its batch (2, 12)."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from libs.eventstore.errors import SealBroken, WrongMasterKey
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import Keys, open_event
from libs.eventstore.sealing import NONCE_BYTES, MasterKey
from tests.events import an_event
from tests.histories import FACTS, fill
from tests.servers import MakeDatabase
from tests.store import CONFLICT as APPEND_CONFLICT
from tests.store import (
    DEFAULT,
    MASTER_KEY,
    OTHER,
    UNIT_REFUSED,
    VERSION_TAKEN,
    Line,
    build_store,
    email,
    handle,
    open_line,
    records_of,
    said,
    tamper,
)
from tests.store import DUPLICATE as APPEND_DUPLICATE
from tests.store import RECORDED as APPEND_RECORDED
from tests.store import REJECTED as APPEND_REJECTED
from touchline.events.v1 import facts_pb2
from touchline.events.v1.event_pb2 import (
    EVENT_TYPE_DELIVERY_ATTEMPTED,
    EVENT_TYPE_NOTIFICATION_DECIDED,
    EVENT_TYPE_NOTIFICATION_READ,
    EVENT_TYPE_PAYMENT_ATTEMPTED,
    Event,
)
from touchline.ingestion.v1.ingestion_pb2 import (
    OUTCOME_CONFLICT,
    OUTCOME_DUPLICATE,
    OUTCOME_RECORDED,
    OUTCOME_REJECTED,
    Verdict,
)
from touchline.store.v1.store_pb2 import AppendEvent, AppendRequest, AppendUnit

FORGE_HASH = (
    "UPDATE events SET content_hash = sha256('as another release would') WHERE position = 1",
)


@pytest.fixture
async def line(database_from_template: MakeDatabase) -> AsyncIterator[Line]:
    async with open_line(await database_from_template(build_store)) as line:
        yield line


def told(verdicts: list[Verdict]) -> list[tuple[int, int]]:
    return [(verdict.outcome, verdict.position) for verdict in verdicts]


async def test_an_event_sent_again_after_years_of_others_is_a_duplicate(line: Line) -> None:
    event = said("hello", historical=True)
    assert told(await line.record(event)) == [(OUTCOME_RECORDED, 1)]
    for _ in range(3):
        await line.record(*(said("another") for _ in range(40)))
    assert told(await line.record(event)) == [(OUTCOME_DUPLICATE, 1)]
    assert (await line.store.head()).position == 121


async def test_the_same_id_with_another_content_is_a_conflict_and_overwrites_nothing(
    line: Line,
) -> None:
    event = said("hello")
    await line.record(event)
    before = await records_of(line.store)
    for changed in (
        said("Hello", event_id=event.event_id),
        said("hello", event_id=event.event_id, at_seconds=1_700_000_001),
        said("hello", event_id=event.event_id, historical=True),
        said("hello", event_id=event.event_id, who=[email("bo@example.org")]),
        said("hello", event_id=event.event_id, who=[email("ana@example.org"), handle("ana")]),
    ):
        assert told(await line.record(changed)) == [(OUTCOME_CONFLICT, 1)]
    assert await records_of(line.store) == before


async def test_what_a_retry_may_change_does_not_matter(line: Line) -> None:
    event = said("hello", who=[email("ana@example.org"), handle("ana")])
    await line.recorder.record(DEFAULT, [Event.FromString(event.SerializeToString())], "")
    retried = Event.FromString(event.SerializeToString())
    retried.tenant = "default"
    retried.identities[0].canonical_value = "set by the caller"
    retried.identities.reverse()  # the owner is the strongest, whatever the order
    traced = f"00-{'a' * 32}-{'b' * 16}-01"
    assert told(await line.recorder.record(DEFAULT, [retried], traced)) == [(OUTCOME_DUPLICATE, 1)]


async def test_the_order_of_a_map_on_the_wire_does_not_matter(line: Line) -> None:
    names = [f"name {number}" for number in range(20)]
    event_id = str(uuid4())
    bodies = []
    for order in (names, names[::-1]):
        traits = facts_pb2.TraitsObserved(traits=dict.fromkeys(order, "value"))
        event = said("", event_id=event_id, interaction=None, traits_observed=traits)
        # Entries as a caller in another language may write them: one message after another.
        head = said("", event_id=event_id, interaction=None).SerializeToString()
        entries = [
            Event(
                traits_observed=facts_pb2.TraitsObserved(traits={name: "value"})
            ).SerializeToString()
            for name in order
        ]
        bodies.append(head + b"".join(entries))
        assert Event.FromString(bodies[-1]) == event
    assert bodies[0] != bodies[1]
    first, second = (Event.FromString(body) for body in bodies)
    assert told(await line.record(first)) == [(OUTCOME_RECORDED, 1)]
    assert told(await line.record(second)) == [(OUTCOME_DUPLICATE, 1)]


async def test_a_hash_of_another_release_is_no_conflict_when_the_messages_are_equal(
    line: Line,
) -> None:
    event = said("hello", who=[email("Ana@Example.org"), handle("ana")])
    await line.record(event)
    await tamper(line, *FORGE_HASH)
    changed = Event.FromString(event.SerializeToString())
    changed.source = "another"
    verdicts = await line.record(event, said("new"), changed)
    assert told(verdicts) == [(OUTCOME_DUPLICATE, 1), (OUTCOME_RECORDED, 2), (OUTCOME_CONFLICT, 1)]


async def test_an_event_twice_in_one_batch_is_recorded_once(line: Line) -> None:
    event, changed = said("hello"), said("other")
    changed.event_id = event.event_id
    assert told(await line.record(event, event, changed, said("new"))) == [
        (OUTCOME_RECORDED, 1),
        (OUTCOME_DUPLICATE, 1),
        (OUTCOME_CONFLICT, 1),
        (OUTCOME_RECORDED, 2),
    ]


async def test_tenants_may_use_one_id_and_one_address(line: Line) -> None:
    event = said("hello")
    assert told(await line.record(event)) == [(OUTCOME_RECORDED, 1)]
    assert told(await line.record(event, by=OTHER)) == [(OUTCOME_RECORDED, 2)]
    assert told(await line.record(event)) == [(OUTCOME_DUPLICATE, 1)]
    mine, theirs = await records_of(line.store)
    assert mine.owner_key != theirs.owner_key
    keys = await line.keyring.fetch(2, [theirs.owner_key])
    assert open_event(mine, Keys({mine.owner_key: keys[theirs.owner_key]})) is None
    forged = keys[theirs.owner_key]._replace(
        key_id=mine.identities[0].key_id, event_secret_id=mine.event_secret_id
    )
    with pytest.raises(SealBroken):
        open_event(mine, Keys({mine.owner_key: forged}))


async def test_a_bad_event_is_kept_with_its_reasons_and_the_others_are_recorded(
    line: Line,
) -> None:
    nobody = said("nobody")
    nobody.ClearField("identities")
    sourceless = said("")
    sourceless.source = ""
    bad = [nobody, said("who?", who=[email("no address")]), sourceless, Event()]
    good = [said("one"), said("two"), said("three")]
    verdicts = await line.record(good[0], *bad[:2], good[1], *bad[2:], good[2])
    outcomes = [OUTCOME_RECORDED, OUTCOME_REJECTED, OUTCOME_REJECTED]
    assert [verdict.outcome for verdict in verdicts] == [*outcomes, *outcomes, OUTCOME_RECORDED]
    assert [verdict.position for verdict in verdicts if verdict.position] == [1, 2, 3]
    assert [violation.field for violation in verdicts[1].violations] == ["identities"]
    kept, more = await line.kept.list(DEFAULT.sealed, 2**62, 10)
    assert not more
    assert [one.event for one in kept] == bad[::-1]
    assert all(one.violations for one in kept)
    await line.record(*bad)  # sent again it is kept once
    assert await line.kept.count(DEFAULT.sealed) == len(bad)
    assert await line.kept.count(OTHER.sealed) == 0


EXTREMES = {
    FieldDescriptor.CPPTYPE_UINT32: [0, 2**32 - 1],
    FieldDescriptor.CPPTYPE_INT32: [0, -(2**31), 2**31 - 1],
    FieldDescriptor.CPPTYPE_INT64: [0, -(2**63), 2**63 - 1],
}


def wild_event(chance: random.Random) -> Event:
    """An event of every absurdity that the protocol can carry."""

    def leaf(known: FieldDescriptor, _: str) -> Any:
        if known.message_type is not None:
            seconds = chance.choice([0, -1, 1_700_000_000, 2**62, -(2**62)])
            return Timestamp(seconds=seconds, nanos=chance.choice([0, -1, 10**9, 2**31 - 1]))
        if known.enum_type is not None:
            return chance.choice([0, 1, 2, 3, 99, 300, -1, 2**31 - 1, -(2**31)])
        match known.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                ids = [str(uuid4()), "00000000-0000-0000-0000-00000000000g"]
                texts = ["", "a", "\0", "é\u202e💥", "x" * 70_000, "EUR", "ana@example.org"]
                return chance.choice([*texts, *ids, *ids, *ids])
            case FieldDescriptor.CPPTYPE_DOUBLE:
                return chance.choice([0.0, float("nan"), float("inf"), -1e308])
            case FieldDescriptor.CPPTYPE_BOOL:
                return chance.random() < 0.5
            case _:
                return chance.choice(EXTREMES[known.cpp_type])

    # Half of each event is right, so that the other half is looked at.
    event: Any = said("right") if chance.random() < 0.7 else Event()
    fact: Message = getattr(event, chance.choice(sorted(FACTS)))
    fact.SetInParent()
    fill(fact, leaf, lambda: chance.randint(0, 3))
    for known in Event.DESCRIPTOR.fields:
        if known.containing_oneof is None and chance.random() < 0.15:
            one = Event()
            fill(one, leaf, lambda: chance.randint(0, 3))
            event.ClearField(known.name)
            event.MergeFrom(Event(**{known.name: getattr(one, known.name)}))
    right: Event = event
    return right


async def test_whatever_else_a_batch_holds_the_good_events_are_recorded(line: Line) -> None:
    chance = random.Random(11)
    recorded = rejected = 0
    for _ in range(25):
        wild = [wild_event(chance) for _ in range(20)]
        good = [said("good") for _ in wild]
        mixed = [event for pair in zip(good, wild, strict=True) for event in pair]
        verdicts = await line.record(*mixed)
        assert {verdict.outcome for verdict in verdicts[::2]} == {OUTCOME_RECORDED}
        for verdict in verdicts[1::2]:
            assert verdict.outcome in (OUTCOME_RECORDED, OUTCOME_REJECTED)
            assert bool(verdict.violations) == (verdict.outcome == OUTCOME_REJECTED)
            recorded += verdict.outcome == OUTCOME_RECORDED
            rejected += verdict.outcome == OUTCOME_REJECTED
    assert recorded > 10
    assert rejected > 100
    assert (await line.store.head()).position == 25 * 20 + recorded
    found = await line.verified()
    assert (found.problems, found.sealed) == ([], 0)


async def test_concurrent_batches_with_the_same_events_record_each_once(line: Line) -> None:
    events = [said(f"event {number}") for number in range(30)]
    shuffled = [random.Random(seed).sample(events, len(events)) for seed in range(6)]
    answers = await asyncio.gather(*(line.record(*batch) for batch in shuffled))
    outcomes = [verdict.outcome for answer in answers for verdict in answer]
    assert outcomes.count(OUTCOME_RECORDED) == 30
    assert outcomes.count(OUTCOME_DUPLICATE) == 150
    places = {(verdict.event_id, verdict.position) for answer in answers for verdict in answer}
    assert len(places) == 30


def _units(*units: list[tuple[Event, str, int]]) -> AppendRequest:
    return AppendRequest(
        units=[
            AppendUnit(
                events=[
                    AppendEvent(event=event, stream_id=stream, stream_version=version)
                    for event, stream, version in unit
                ]
            )
            for unit in units
        ]
    )


async def test_units_of_another_service_are_all_or_nothing(line: Line) -> None:
    stream = str(uuid4())
    first = _units([(said("created"), stream, 1), (said("changed"), stream, 2)])

    async def append(request: AppendRequest) -> list[tuple[int, int]]:
        copy = AppendRequest.FromString(request.SerializeToString())
        answer = await line.recorder.append(DEFAULT, copy, "")
        return [(verdict.outcome, verdict.position) for verdict in answer.verdicts]

    assert await append(first) == [(APPEND_RECORDED, 1), (APPEND_RECORDED, 2)]
    assert await append(first) == [(APPEND_DUPLICATE, 1), (APPEND_DUPLICATE, 2)]
    changed = said("not what was created", event_id=first.units[0].events[0].event.event_id)
    second = _units(
        [(said("changed by another"), stream, 2), (said("with it"), str(uuid4()), 1)],
        [(said("a fact"), "", 0)],
        [(said("fine"), str(uuid4()), 1), (Event(), "", 0)],
        [(changed, "", 0), (said("fine too"), "", 0)],
    )
    assert await append(second) == [
        (VERSION_TAKEN, 0),
        (UNIT_REFUSED, 0),
        (APPEND_RECORDED, 3),
        (UNIT_REFUSED, 0),
        (APPEND_REJECTED, 0),
        (APPEND_CONFLICT, 1),
        (UNIT_REFUSED, 0),
    ]
    assert (await line.store.head()).position == 3


async def test_a_decision_is_recorded_for_a_service_outside_any_stream(line: Line) -> None:
    payment = an_event("payment_attempted")
    payment.payment_attempted.channel = facts_pb2.CHANNEL_WEB
    request = _units(
        [(an_event("notification_decided"), "", 0), (an_event("delivery_attempted"), "", 0)],
        [(an_event("score_crossed"), str(uuid4()), 1)],
        [(an_event("notification_read"), "", 0), (payment, "", 0)],
    )
    told = (await line.recorder.append(DEFAULT, request, "")).verdicts
    assert [verdict.position for verdict in told] == [1, 2, 0, 3, 4]
    assert told[2].outcome == APPEND_REJECTED
    assert told[2].detail == "stream_id must be empty: a decision about a customer is in no stream"
    records = await records_of(line.store)
    decided = [EVENT_TYPE_NOTIFICATION_DECIDED, EVENT_TYPE_DELIVERY_ATTEMPTED]
    later = [EVENT_TYPE_NOTIFICATION_READ, EVENT_TYPE_PAYMENT_ATTEMPTED]
    assert [record.type for record in records] == [*decided, *later]
    assert [record.channel for record in records] == [0, 0, 0, facts_pb2.CHANNEL_WEB]


@pytest.mark.parametrize(
    ("stream", "version", "problem"),
    [
        ("", 0, None),
        ("no id", 1, "UUID"),
        ("z" * 36, 1, "hexadecimal"),
        ("6f7f0ccc-ed10-45ef-afb2-7e080c77b79f", -1, "start at 0"),
    ],
)
async def test_a_stream_that_is_none_is_refused(
    line: Line, stream: str, version: int, problem: str | None
) -> None:
    request = _units([(said("hello"), stream, version)])
    if problem is None:
        await line.recorder.append(DEFAULT, request, "")
    else:
        with pytest.raises(ValueError, match=problem):
            await line.recorder.append(DEFAULT, request, "")
    assert (await line.store.head()).position == (problem is None)


async def test_a_request_of_no_or_too_many_events_is_refused(line: Line) -> None:
    for count in (0, 1001):
        request = _units(*([(Event(), "", 0)] for _ in range(count)))
        with pytest.raises(ValueError, match=f"1 to 1000 events, not {count}"):
            await line.recorder.append(DEFAULT, request, "")


async def test_an_event_opens_as_it_was_sent_with_canonical_identities(line: Line) -> None:
    event = said("hello", who=[handle("@Ana"), email(" Ana@Example.ORG ")])
    await line.record(event)
    (record,) = await records_of(line.store)
    opened = open_event(record, await Keyring(line.pool, MASTER_KEY).keys_of(1, [record]))
    assert opened is not None
    assert [one.canonical_value for one in opened.identities] == ["ana@example.org", "ana"]
    for one in opened.identities:
        one.ClearField("canonical_value")
    opened.identities.reverse()
    assert opened == event


async def test_without_its_key_an_event_is_closed_and_stays_on_the_line(line: Line) -> None:
    await line.record(said("hello", who=[email("ana@example.org"), handle("ana")]), said("bye"))
    head = await line.store.head()
    first, second = await records_of(line.store)
    owner, other = (sealed.identity_key for sealed in first.identities)
    await line.owner("DELETE FROM data_keys WHERE identity_key = $1", owner)
    found = await Keyring(line.pool, MASTER_KEY).fetch(1, [owner, other])
    assert set(found) == {other}
    assert open_event(first, Keys(found)) is None
    assert open_event(second, Keys(found)) is None
    assert await line.store.head() == head
    assert len(await records_of(line.store)) == 2


async def test_one_who_comes_back_after_an_erasure_opens_nothing_of_the_past(line: Line) -> None:
    await line.record(said("before"))
    (before,) = await records_of(line.store)
    await line.erase(before.owner_key)
    async with open_line(line.url) as restarted:
        await restarted.record(said("after"))
        before, _, after = await records_of(restarted.store)
        keys = await restarted.keyring.keys_of(1, [before, after])
        assert open_event(before, keys) is None
        opened = open_event(after, keys)
        assert opened is not None
        assert opened.interaction.text == "after"
        assert (await restarted.verified()).problems == []


async def test_an_erased_event_that_comes_again_fails_nothing(line: Line) -> None:
    event, other = said("hello"), said("other")
    await line.record(event, other)
    await line.owner("DELETE FROM data_keys")
    other.source = "changed"
    async with open_line(line.url) as afterwards:
        verdicts = await afterwards.record(event, other, said("new", who=[email("bo@example.org")]))
    assert told(verdicts) == [(OUTCOME_DUPLICATE, 1), (OUTCOME_CONFLICT, 2), (OUTCOME_RECORDED, 3)]


async def test_no_nonce_seals_twice(line: Line) -> None:
    await asyncio.gather(*(line.record(*(said("same") for _ in range(40))) for _ in range(5)))
    records = await records_of(line.store)
    assert len({record.sealed_event[:NONCE_BYTES] for record in records}) == len(records) == 200


async def test_another_master_key_is_refused_and_the_store_unchanged(line: Line) -> None:
    await line.record(said("hello"))
    before = await line.owner("SELECT h::text FROM store_head h")
    stranger = Keyring(line.pool, MasterKey(bytes(32)))
    with pytest.raises(WrongMasterKey, match="TOUCHLINE_MASTER_KEY this store was made with"):
        await stranger.check_master_key()
    assert await line.owner("SELECT h::text FROM store_head h") == before
    (record,) = await records_of(line.store)
    with pytest.raises(WrongMasterKey):
        await stranger.fetch(1, [record.owner_key])
    await Keyring(line.pool, MASTER_KEY).check_master_key()


async def test_processes_that_meet_a_new_identity_at_once_agree_on_its_key(line: Line) -> None:
    keyrings = [Keyring(line.pool, MASTER_KEY) for _ in range(6)]
    wanted = [bytes([number]) * 16 for number in range(20)]
    await asyncio.gather(
        *(
            keyring.ensure(1, random.Random(seed).sample(wanted, 20))
            for seed, keyring in enumerate(keyrings)
        )
    )
    secrets = [await keyring.fetch(1, wanted) for keyring in keyrings]
    for key in wanted:
        assert len({found[key].secret for found in secrets}) == 1
