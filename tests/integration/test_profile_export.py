"""All there is of one customer, as a caller of the profile service is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.customers import ids, new_email, new_phone, of, profile_id, record, told
from tests.given import consent, note, retraction, touch, traits
from tests.services import Touchline
from touchline.client import Client
from touchline.events.v1.facts_pb2 import (
    CHANNEL_PHONE,
    PREFERENCE_STATUS_AVOIDED,
    PreferenceChanged,
)
from touchline.events.v1.identity_pb2 import Identity
from touchline.failures import CallFailed, readable_failures
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import ExportedItem
from touchline.profile.v1.profile_pb2 import ProfileReference

MIB = 1 << 20


async def exported(client: Client, identity: Identity, after: int = 0) -> list[ExportedItem]:
    """Everything of a customer, each message checked for its size."""
    items = list[ExportedItem]()
    request = api.ExportProfileRequest(profile=of(identity), after_position=after)
    async for message in client.profile.ExportProfile(request):
        assert message.ByteSize() <= MIB or len(message.items) == 1
        items += message.items
    return items


def kinds(items: list[ExportedItem]) -> list[str]:
    """The kinds of the items in their order, each once."""
    return list(dict.fromkeys(str(item.WhichOneof("item")) for item in items))


async def test_an_export_tells_all_there_is_in_the_order_of_its_kinds(
    shared_touchline: Touchline,
) -> None:
    client, address, phone = shared_touchline.client, new_email(), new_phone()
    first = traits("2024-01-05", {"city": "Bonn", "tier": "gold"})
    wrong = note("2024-02-01", "It was somebody else.")
    moved = traits("2024-03-05", {"city": "Kiel"}, source="form")
    no_news = consent("2024-03-06", "newsletter", "withdrawn")
    calls = PreferenceChanged(channel=CHANNEL_PHONE, status=PREFERENCE_STATUS_AVOIDED)
    no_calls = touch("2024-03-07", preference_changed=calls)
    no_longer = retraction("2024-02-02", wrong)
    position = await record(
        client,
        *(told(one, address, phone) for one in (moved, no_longer)),
        *(told(one, address) for one in (no_calls, no_news, wrong, first)),
    )
    items = await exported(client, phone, position)

    every = [field.name for field in ExportedItem.DESCRIPTOR.fields]
    assert kinds(items) == [kind for kind in every if kind != "verdict"]  # nobody decided anything
    assert items[0].profile.profile_id == await profile_id(client, address)
    assert {one.identity.value for one in items[0].profile.identities} == {
        address.value,
        phone.value,
    }
    [link] = [item.link for item in items if item.HasField("link")]
    assert {link.left.identity.value, link.right.identity.value} == {address.value, phone.value}
    values = [item.attribute_value for item in items if item.HasField("attribute_value")]
    assert [(one.name, one.value, one.source, one.current) for one in values] == [
        ("city", "Kiel", "form", True),
        ("city", "Bonn", "test", False),
        ("tier", "gold", "test", True),
    ]
    entries = [item.entry.event.event_id for item in items if item.HasField("entry")]
    assert entries == ids(first, wrong, no_longer, moved, no_news, no_calls)
    assert [item.consent.purpose for item in items if item.HasField("consent")] == ["newsletter"]
    [liked] = [item.preference for item in items if item.HasField("preference")]
    assert (liked.channel, liked.words[0].decides) == (CHANNEL_PHONE, True)
    assert items[-1].end.entries == 6
    assert items[-1].end.position >= position


async def test_a_long_history_comes_whole_and_in_messages_of_bounded_size(
    shared_touchline: Touchline,
) -> None:
    client, address = shared_touchline.client, new_email()
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    told_of = [
        note(f"{begin + timedelta(minutes=minute):%Y-%m-%d %H:%M}", str(minute % 10) * 30_000)
        for minute in range(230)
    ]
    position = await record(client, *(told(one, address) for one in told_of[::-1]))
    items = await exported(client, address, position)

    texts = [item.entry.event.note_added.text for item in items if item.HasField("entry")]
    assert texts == [one.event.note_added.text for one in told_of]
    assert items[-1].end.entries == 230


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (ProfileReference(), "INVALID_REQUEST"),
        (ProfileReference(profile_id="0" * 32), "PROFILE_NOT_FOUND"),
        (ProfileReference(profile_id="0" * 31), "INVALID_REQUEST"),
    ],
)
async def test_what_names_nobody_is_refused(
    shared_touchline: Touchline, reference: ProfileReference, reason: str
) -> None:
    request = api.ExportProfileRequest(profile=reference)
    with pytest.raises(CallFailed) as refused, readable_failures():
        async for _ in shared_touchline.client.profile.ExportProfile(request):
            pass
    assert refused.value.reason == reason
