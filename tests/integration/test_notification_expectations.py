"""What customers await: answered or not, promised and kept, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any
from uuid import uuid4

import grpc
import pytest

from libs.identity.keys import IdentityKeys, tenant_secret
from tests.customers import new_email, new_phone, view
from tests.expecting import HOUR, SECOND, Awaiting, now_us, outcomes
from tests.ruling import a_rule
from tests.servers import SharedPostgres
from tests.services import TENANTS, Service, Touchline, new_notifications, notification_on
from touchline.client import Client
from touchline.events.v1.event_pb2 import ACTOR_KIND_SYSTEM, Event
from touchline.events.v1.facts_pb2 import (
    EXPECTATION_OUTCOME_BROKEN,
    EXPECTATION_OUTCOME_KEPT,
    EXPECTATION_OUTCOME_RENEGOTIATED,
    EXPECTATION_OUTCOME_WITHDRAWN,
)
from touchline.failures import CallFailed
from touchline.notification.v1 import notification_service_pb2 as api
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    EXPECTATION_STATE_KEPT,
    EXPECTATION_STATE_OPEN,
    EXPECTATION_STATE_WITHDRAWN,
)
from touchline.profile.v1.views_pb2 import (
    PROMISE_STATUS_BROKEN,
    PROMISE_STATUS_KEPT,
    PROMISE_STATUS_OVERDUE,
    PROMISE_STATUS_WITHDRAWN,
    VIEW_KIND_CUSTOMER,
    VIEW_KIND_SALES,
    CustomerView,
    Promise,
    SalesView,
)
from touchline.times import micros_of, timestamp_of

OPEN, KEPT = EXPECTATION_STATE_OPEN, EXPECTATION_STATE_KEPT
BROKEN, WITHDRAWN = EXPECTATION_STATE_BROKEN, EXPECTATION_STATE_WITHDRAWN
STATUSES = {
    OPEN: PROMISE_STATUS_OVERDUE,  # of what was due long ago
    KEPT: PROMISE_STATUS_KEPT,
    BROKEN: PROMISE_STATUS_BROKEN,
    WITHDRAWN: PROMISE_STATUS_WITHDRAWN,
}


@pytest.fixture(scope="module")
async def running(
    shared_touchline: Touchline, servers: SharedPostgres
) -> AsyncIterator[tuple[Service, Client]]:
    """A notification service beside the shared ones."""
    async with notification_on(shared_touchline, await new_notifications(servers)) as running:
        yield running


@pytest.fixture
def customer(running: tuple[Service, Client]) -> Awaiting:
    return Awaiting(running[1], new_email())


def a_name() -> str:
    return f"e-{uuid4()}"


async def complaints_are_answered_within(client: Client, seconds: float) -> str:
    """Publishes a rule of a name of its own, for complaints that have it as their conversation."""
    name = f"complaint-{uuid4().hex[:8]}"
    rule = a_rule(
        "interaction",
        name=name,
        condition=f"event.fact.intent == 'complaint' && event.conversation_id == '{name}'",
        expect={"promise": "An answer", "within": f"{seconds}s", "team": "team:social-care"},
    )
    request = api.PublishRuleRequest(definition=rule, published_by="agent-7")
    await client.notification.PublishRule(request)
    return name


async def test_a_public_complaint_that_is_answered_in_time_is_kept(customer: Awaiting) -> None:
    thread = await complaints_are_answered_within(customer.client, 3600)
    complaint = customer.complaint(now_us(), conversation_id=thread)
    await customer.record(complaint)
    awaited = await customer.until(OPEN)
    assert (awaited.promise, awaited.team, awaited.rule) == (
        *("An answer", "team:social-care", thread),
    )
    assert micros_of(awaited.due_at) == micros_of(complaint.occurred_at) + HOUR

    answer = customer.answer(now_us(), conversation_id=thread)
    await customer.record(answer)
    kept = await customer.until(KEPT)
    assert (kept.reason, kept.ended_at) == ("answered in time", answer.occurred_at)
    (resolution,) = await customer.resolutions()
    assert resolution.event_id == kept.ended_by_event_id
    assert resolution.causation_id == answer.event_id
    told = resolution.expectation_resolved
    assert (told.promise, told.team, [*told.rules]) == ("An answer", "team:social-care", [thread])


async def test_a_public_complaint_that_nobody_answers_is_broken_at_its_deadline(
    customer: Awaiting,
) -> None:
    thread = await complaints_are_answered_within(customer.client, 0.4)
    complaint = customer.complaint(now_us(), conversation_id=thread)
    await customer.record(complaint)
    broken = await customer.until(BROKEN)
    assert broken.reason == "the deadline passed"
    assert broken.ended_at == broken.due_at
    assert micros_of(broken.due_at) == micros_of(complaint.occurred_at) + 400_000

    # Too late: it stays broken, and nothing more is decided.
    await customer.record(customer.answer(now_us(), complaint.event_id, conversation_id=thread))
    await all_is_decided(customer.client)
    (resolution,) = await customer.resolutions()
    assert outcomes([resolution]) == ["broken"]
    assert resolution.occurred_at == broken.due_at
    assert resolution.causation_id == broken.set_by_event_id
    assert (await customer.one()).state == BROKEN


async def test_an_answer_counts_in_whatever_order_it_arrives(customer: Awaiting) -> None:
    start, name = now_us() - 2 * HOUR, a_name()
    complaint = customer.complaint(start, conversation_id="thread")
    answer = customer.answer(start + 10 * SECOND, conversation_id="thread")
    expected = customer.expected(start, name, start + HOUR, answers=complaint.event_id)
    await customer.record(answer)
    await customer.record(complaint)
    await customer.record(expected)
    kept = await customer.until(KEPT)
    assert kept.ended_at == answer.occurred_at
    assert outcomes(await customer.resolutions()) == ["kept"]


async def test_an_answer_that_is_told_after_the_deadline_was_broken_still_keeps_it(
    customer: Awaiting,
) -> None:
    start, name, asked = now_us() - 2 * HOUR, a_name(), str(uuid4())
    await customer.record(customer.expected(start, name, start + HOUR, answers=asked))
    await customer.until(BROKEN)
    await customer.record(customer.answer(start + SECOND, asked))
    kept = await customer.until(KEPT)
    assert kept.reason.startswith("kept in time, which was known only after")
    assert outcomes(await customer.resolutions()) == ["kept", "broken"]


async def test_an_answer_to_another_identity_of_the_customer_counts(customer: Awaiting) -> None:
    start, name, asked, phone = now_us(), a_name(), str(uuid4()), new_phone()
    by_phone = Awaiting(customer.client, phone)
    await customer.record(customer.expected(start, name, start + HOUR, answers=asked))
    await customer.record(by_phone.answer(start + SECOND // 2, asked))
    assert (await customer.one()).state == OPEN  # nobody knows that they are one person
    await customer.record(customer.event(start, phone, traits_observed={"traits": {"a": "b"}}))
    assert (await customer.until(KEPT)).ended_at == timestamp_of(start + SECOND // 2)


async def test_told_twice_and_in_any_order_an_expectation_stands_alike(
    running: tuple[Service, Client],
) -> None:
    start, random = now_us() - 30 * HOUR, Random(7)
    stood = []
    for _ in range(4):
        customer = Awaiting(running[1], new_email())
        name = a_name()
        history = [
            customer.expected(start, name, start + HOUR),
            customer.ended(start + HOUR // 2, name, "renegotiated", start + 3 * HOUR, "a truck"),
            customer.expected(start + HOUR // 3, name, start + 2 * HOUR),
            customer.ended(start + 4 * HOUR, name, "kept", reason="it came"),
        ]
        for event in history:
            event.historical = True
        random.shuffle(history)
        for event in history:
            await customer.record(event)
        await customer.client.record(history)
        one = await customer.one()
        stood.append((one.state, micros_of(one.due_at), one.reason, micros_of(one.set_at)))
    assert set(stood) == {(KEPT, start + 3 * HOUR, "it came", start)}


async def test_what_is_retracted_does_not_count(customer: Awaiting) -> None:
    start, name = now_us(), a_name()
    expected = customer.expected(start, name, start + HOUR)
    withdrawn = customer.ended(start, name, "withdrawn")
    await customer.record(expected, withdrawn)
    assert (await customer.one()).state == WITHDRAWN
    await customer.record(customer.retraction(withdrawn))
    assert (await customer.one()).state == OPEN
    await customer.record(customer.retraction(expected))
    assert await customer.all() == []
    # A retraction may come first.
    other = customer.expected(start, a_name(), start + HOUR)
    await customer.record(customer.retraction(other), other)
    assert await customer.all() == []


async def test_the_views_tell_the_same_of_each_expectation(customer: Awaiting) -> None:
    random, start = Random(5), now_us() - 60 * HOUR  # long ago, so that nothing is decided here
    await customer.record(*_random_history(customer, random, start))
    ours = {
        one.expectation_id: (
            *(STATUSES[one.state], one.due_at.seconds, one.set_by_event_id, one.promise),
            one.reason if one.state != OPEN else "",  # a view has no word of what moved it
        )
        for one in await customer.all()
    }
    assert {status for status, *_ in ours.values()} == {*STATUSES.values()}

    place = (customer.client, customer.identity)
    shown = await view(*place, VIEW_KIND_CUSTOMER, customer.position)
    assert isinstance(shown, CustomerView)  # which tells all of them, without colleagues' reasons
    assert {one.expectation_id: _told(one)[:-1] for one in shown.promises} == {
        name: told[:-1] for name, told in ours.items()
    }
    listed = await view(*place, VIEW_KIND_SALES, customer.position)
    assert isinstance(listed, SalesView)
    assert listed.promises
    for one in listed.promises:
        assert _told(one) == ours[one.expectation_id]


def _told(one: Promise) -> tuple[Any, ...]:
    return one.status, one.due_at.seconds, one.event_id, one.promise, one.reason


def _random_history(customer: Awaiting, random: Random, start: int) -> list[Event]:
    """What is told of forty expectations, shuffled; some of it is retracted."""

    def hour() -> int:
        return start + random.randint(0, 12) * HOUR

    def word(name: str) -> Event:
        how = random.choice(["kept", "kept", "broken", "renegotiated", "withdrawn", "passed"])
        if how == "passed":
            event = customer.ended(hour(), name, "broken", reason="the deadline passed")
            event.source, event.actor.kind = "notification", ACTOR_KIND_SYSTEM
            return event
        moved = hour() if how == "renegotiated" else 0
        return customer.ended(hour(), name, how, moved, random.choice(["", "a storm"]))

    events = []
    for name in (a_name() for _ in range(40)):
        events += [
            customer.expected(hour(), name, hour()) for _ in range(random.choice([1, 1, 1, 2]))
        ]
        events += [word(name) for _ in range(random.randint(0, 4))]
    events += [customer.retraction(event) for event in random.sample(events, 8)]
    random.shuffle(events)
    return events


async def test_nothing_of_the_past_is_decided(customer: Awaiting) -> None:
    start = now_us() - 3 * HOUR
    historical = customer.expected(start, a_name(), start + HOUR, answers=str(uuid4()))
    historical.historical = True
    long_ago = start - 30 * 24 * HOUR
    told_late = customer.expected(long_ago, a_name(), long_ago + HOUR)
    probe = customer.expected(start, a_name(), start + HOUR)
    answer = customer.answer(start + 1, historical.expectation_set.answers)
    await customer.record(historical, told_late, answer, probe)
    await customer.until(BROKEN)
    (resolution,) = await customer.resolutions()
    assert resolution.expectation_resolved.expectation_id == probe.expectation_set.expectation_id
    states = {one.expectation_id: one.state for one in await customer.all()}
    assert sorted(states.values()) == [OPEN, OPEN, BROKEN]


async def all_is_decided(client: Client) -> None:
    """Returns once what was decided is on the line: decisions come there in their order."""
    probe = Awaiting(client, new_email())
    await probe.record(probe.expected(now_us(), a_name(), now_us()))
    await probe.until(BROKEN)


def promise(customer: Awaiting, name: str, due_us: int, **said: Any) -> api.GivePromiseRequest:
    told = {"promise": "We call you back", "promised_by": "agent-7", **said}
    return api.GivePromiseRequest(
        expectation_id=name,
        identities=[customer.identity],
        due_at=timestamp_of(due_us),
        **told,
    )


def resolve(name: str, outcome: int, **said: Any) -> api.ResolvePromiseRequest:
    told = {"resolved_by": "agent-8", **said}
    return api.ResolvePromiseRequest(expectation_id=name, outcome=outcome, **told)  # type: ignore[arg-type]


async def refused(call: Any) -> tuple[str, Sequence[str]]:
    """Why a call is refused, and which fields are at fault."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    failed = CallFailed.of(caught.value)
    assert failed is not None
    return failed.reason, [field for field, _ in failed.violations]


async def test_a_promise_is_given_renegotiated_and_kept(customer: Awaiting) -> None:
    calls, name, due = customer.client.notification, a_name(), now_us() + HOUR
    given = await calls.GivePromise(promise(customer, name, due))
    customer.position = given.position
    open_ = await customer.one()
    assert (open_.state, open_.promise, open_.promised_by, open_.team, open_.version) == (
        *(OPEN, "We call you back", "agent-7", "agent-7", given.version),
    )
    assert open_.expectation_id == name

    moved = await calls.ResolvePromise(
        resolve(
            name,
            EXPECTATION_OUTCOME_RENEGOTIATED,
            due_at=timestamp_of(due + HOUR),
            reason="the customer travels",
            expected_version=given.version,
        )
    )
    customer.position = moved.position
    renegotiated = await customer.one()
    assert (renegotiated.state, micros_of(renegotiated.due_at)) == (OPEN, due + HOUR)
    assert (renegotiated.reason, renegotiated.version) == ("the customer travels", moved.version)
    assert moved.version == given.version + 1

    kept = await calls.ResolvePromise(resolve(name, EXPECTATION_OUTCOME_KEPT))
    customer.position = kept.position
    ended = await customer.one()
    assert (ended.state, ended.version) == (KEPT, kept.version)
    resolutions = await customer.resolutions()
    assert outcomes(resolutions) == ["renegotiated", "kept"]
    assert {event.actor.reference for event in resolutions} == {"agent-8"}
    assert await customer.all(OPEN, BROKEN) == []


async def test_giving_a_promise_once_more_changes_nothing(customer: Awaiting) -> None:
    calls, request = customer.client.notification, promise(customer, a_name(), now_us() + HOUR)
    first, again = await asyncio.gather(calls.GivePromise(request), calls.GivePromise(request))
    assert first.version == again.version == 1
    customer.position = max(first.position, again.position)
    (only,) = await customer.all()
    assert only.version == 1
    other = api.GivePromiseRequest()
    other.CopyFrom(request)
    other.promise = "Something else"
    assert (await refused(calls.GivePromise(other)))[0] == "EXPECTATION_EXISTS"


async def test_a_promise_can_not_have_the_id_of_an_expectation_that_is_none(
    customer: Awaiting,
) -> None:
    name, start = a_name(), now_us()
    await customer.record(customer.expected(start, name, start + HOUR))
    await customer.one()
    calls = customer.client.notification
    given = calls.GivePromise(promise(customer, name, start + HOUR))
    assert (await refused(given))[0] == "EXPECTATION_EXISTS"
    ended = calls.ResolvePromise(resolve(name, EXPECTATION_OUTCOME_KEPT))
    assert (await refused(ended))[0] == "EXPECTATION_NOT_FOUND"


async def test_a_promise_ends_once(customer: Awaiting) -> None:
    calls, name = customer.client.notification, a_name()
    await calls.GivePromise(promise(customer, name, now_us() + HOUR))
    withdrawn = resolve(name, EXPECTATION_OUTCOME_WITHDRAWN, reason="sold the bike")
    first = await calls.ResolvePromise(withdrawn)
    again = await calls.ResolvePromise(withdrawn)  # the answer to the first was lost
    assert first.version == again.version
    assert again.position >= first.position
    kept = calls.ResolvePromise(resolve(name, EXPECTATION_OUTCOME_KEPT))
    assert (await refused(kept))[0] == "EXPECTATION_ENDED"
    customer.position = first.position
    assert (await customer.one()).state == WITHDRAWN


async def test_of_two_who_change_a_promise_one_is_told_that_it_changed(customer: Awaiting) -> None:
    calls, name = customer.client.notification, a_name()
    given = await calls.GivePromise(promise(customer, name, now_us() + HOUR))
    changes = [
        calls.ResolvePromise(
            resolve(
                name,
                EXPECTATION_OUTCOME_RENEGOTIATED,
                due_at=timestamp_of(now_us() + (2 + number) * HOUR),
                expected_version=given.version,
            )
        )
        for number in range(2)
    ]
    results = await asyncio.gather(*changes, return_exceptions=True)
    (failed,) = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
    told = CallFailed.of(failed)
    assert told is not None
    assert told.reason == "STALE_VERSION"
    assert told.metadata == {"name": "The promise", "version": "2", "expected_version": "1"}


async def test_what_can_not_be_promised_is_refused_by_field(customer: Awaiting) -> None:
    calls, due = customer.client.notification, now_us() + HOUR
    empty = api.GivePromiseRequest()
    assert await refused(calls.GivePromise(empty)) == (
        "INVALID_REQUEST",
        ["expectation_id", "identities", "promise", "due_at", "promised_by"],
    )
    late = promise(customer, "e", now_us() - 1, team="not a team", promised_by="a@b.example")
    assert (await refused(calls.GivePromise(late)))[1] == ["due_at", "promised_by", "team"]
    nobody = promise(customer, "e", due)
    nobody.identities[0].value = "no address"
    assert (await refused(calls.GivePromise(nobody)))[1] == ["identities[0].value"]
    wrong = resolve("", EXPECTATION_OUTCOME_BROKEN, expected_version=-1, resolved_by="")
    assert (await refused(calls.ResolvePromise(wrong)))[1] == [
        *("expectation_id", "outcome", "expected_version", "resolved_by"),
    ]
    moved = resolve("e", EXPECTATION_OUTCOME_RENEGOTIATED)
    assert (await refused(calls.ResolvePromise(moved)))[1] == ["due_at"]
    kept = resolve("e", EXPECTATION_OUTCOME_KEPT, due_at=timestamp_of(due))
    assert (await refused(calls.ResolvePromise(kept)))[1] == ["due_at"]
    unknown = resolve(a_name(), EXPECTATION_OUTCOME_KEPT)
    assert (await refused(calls.ResolvePromise(unknown)))[0] == "EXPECTATION_NOT_FOUND"


async def test_expectations_are_listed_by_team_and_state_the_earliest_due_first(
    customer: Awaiting,
) -> None:
    start, names = now_us(), [a_name() for _ in range(5)]
    team = f"team:{uuid4().hex[:8]}"
    events = [
        customer.expected(start, name, start + (7 - number) * HOUR)
        for number, name in enumerate(names)
    ]
    for event in events:
        event.expectation_set.team = team
    ended = customer.ended(start, names[2], "kept")
    await customer.record(*events, ended)
    request = api.ListExpectationsRequest(team=team, page_size=3, after_position=customer.position)
    calls = customer.client.notification
    first = await calls.ListExpectations(request)
    assert [one.expectation_id for one in first.expectations] == [names[4], names[3], names[1]]
    request.page_token = first.next_page_token
    second = await calls.ListExpectations(request)
    assert [one.expectation_id for one in second.expectations] == [names[0]]
    assert not second.next_page_token
    request.team = "team:other"
    assert (await refused(calls.ListExpectations(request)))[0] == "INVALID_PAGE_TOKEN"
    kept = api.ListExpectationsRequest(team=team, states=[KEPT])
    (only,) = (await calls.ListExpectations(kept)).expectations
    assert only.expectation_id == names[2]


async def test_of_two_processes_one_decides_and_the_other_takes_over(
    running: tuple[Service, Client], shared_touchline: Touchline
) -> None:
    first, client = running
    before, after = Awaiting(client, new_email()), new_email()
    url = first.environment["TOUCHLINE_DATABASE_URL"]
    async with notification_on(shared_touchline, url) as (_, other):
        await before.record(before.expected(now_us(), a_name(), now_us()))
        await before.until(BROKEN)
        await first.stop()
        later = Awaiting(other, after)
        await later.record(later.expected(now_us(), a_name(), now_us()))
        await later.until(BROKEN)
        for customer in (before, later):
            assert outcomes(await customer.resolutions()) == ["broken"]
    await first.start()


async def test_what_happens_while_the_service_is_down_is_made_up_for(
    touchline: Touchline, servers: SharedPostgres
) -> None:
    # On a line of its own: a service of another test would hear of the deadline in time.
    async with notification_on(touchline, await new_notifications(servers)) as (service, client):
        asked = str(uuid4())
        for seconds in (1, 5, 25):  # a busy machine may not come so far before the deadline
            left, answered, erased = (Awaiting(client, new_email()) for _ in range(3))
            due = now_us() + seconds * SECOND
            await left.record(left.expected(now_us(), a_name(), due))
            await answered.record(answered.expected(now_us(), a_name(), due, answers=asked))
            await erased.record(forgotten := erased.expected(now_us(), a_name(), due))
            states = [(await customer.one()).state for customer in (left, answered, erased)]
            await service.crash()
            if now_us() < due:
                break
            await service.start()
        assert states == [OPEN] * 3
        await forget(touchline, forgotten)
        await asyncio.sleep(max(0, due - now_us()) / SECOND)
        # In time, though nobody hears of it before the deadline has passed.
        await answered.record(answered.answer(due - 1000, asked))
        await service.start()

        assert (await left.until(BROKEN)).ended_at == timestamp_of(due)
        assert (await answered.until(KEPT)).ended_at == timestamp_of(due - 1000)
        assert outcomes(await left.resolutions()) == ["broken"]
        assert outcomes(await answered.resolutions()) == ["kept"]
        # Nothing can be decided of one who was erased, and nothing but times is told.
        one = await erased.one()
        assert (one.state, one.promise, one.expectation_id, one.team) == (OPEN, "", "", "")
        assert (one.set_by_event_id, micros_of(one.due_at)) == (forgotten.event_id, due)


async def forget(touchline: Touchline, event: Event) -> None:
    """Deletes the data key of the event's owner; services that start afterwards can't have it."""
    secret = bytes.fromhex(touchline.ingestion.environment["TOUCHLINE_IDENTITY_SECRET"])
    key = IdentityKeys(tenant_secret(secret, TENANTS[0])).identify(event.identities[0]).key
    statement = "DELETE FROM data_keys WHERE identity_key = $1"
    assert await touchline.execute(touchline.stores.events, statement, key) == "DELETE 1"
    await touchline.ingestion.restart()
