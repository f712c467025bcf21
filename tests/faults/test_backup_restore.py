"""Backup under load, more recorded, restore: an installation as people run it."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from tests.running import Installation
from tests.store import email, said
from touchline.client import Client
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.notification.v1 import notification_pb2 as n
from touchline.notification.v1 import notification_service_pb2 as calls
from touchline.profile.v1.profile_service_pb2 import GetPopulationRequest
from touchline.projection.v1.projection_pb2 import PROJECTION_STATE_LIVE
from touchline.projection.v1.projection_service_pb2 import ListProjectionsRequest

pytestmark = pytest.mark.timeout(300)

BATCH = 100
RECIPIENT = n.Recipient(reference="team:service", email="team@example.org")


async def record(client: Client, count: int) -> list[str]:
    """Records events of many people, and returns their ids."""
    ids = [str(uuid4()) for _ in range(count)]
    for start in range(0, count, BATCH):
        events = [
            said("hello", event_id=one, who=[email(f"{one[:2]}@example.org")])
            for one in ids[start : start + BATCH]
        ]
        await client.record(events)
    return ids


async def caught_up(client: Client) -> int:
    """Returns the head once every projection of every service has folded it."""
    async with asyncio.timeout(120):
        while True:
            with suppress(grpc.aio.AioRpcError):  # one that folds anew ends, and is started again
                head = (await client.ingestion.GetStoreStatus(GetStoreStatusRequest())).status
                listed = [
                    one
                    for calls in client.projections.values()
                    for one in (await calls.ListProjections(ListProjectionsRequest())).projections
                ]
                if all(
                    (one.position, one.state) == (head.head_position, PROJECTION_STATE_LIVE)
                    for one in listed
                ):
                    return int(head.head_position)
            await asyncio.sleep(0.2)


async def test_after_a_restore_all_holds_and_what_was_further_folded_anew_by_itself(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path / "home")
    directory = tmp_path / "backup"
    async with installation.up(), installation.client() as client:
        await client.notification.PutRecipient(calls.PutRecipientRequest(recipient=RECIPIENT))
        await record(client, 1000)
        recording = asyncio.create_task(record(client, 2000))
        made = await installation.run("backup", str(directory))
        assert made.code == 0, made.err
        assert "Backed up" in made.out
        assert f"They are in {installation.home}/secrets.json" in made.words
        await recording
        await record(client, 500)
        before = await caught_up(client)
        busy = await installation.run("restore", str(directory), "--replace", "--yes")
        assert busy.code == 1
        assert "Touchline already runs on" in busy.words

    backed_up = json.loads((directory / "manifest.json").read_text())["store"]["position"]
    assert 1000 <= backed_up < before
    lost = f"{before - backed_up:,} events, recorded since the backup"
    refused = await installation.run("restore", str(directory))
    assert refused.code == 1
    assert f"restoring loses {lost}. Say --replace" in refused.words
    restored = await installation.run("restore", str(directory), "--replace", "--yes")
    assert restored.code == 0, restored.err
    assert f"lost {lost}" in restored.words
    assert "touchline_store_before_" in restored.words

    async with installation.up() as up, installation.client() as client:
        ids = await record(client, 50)
        assert await caught_up(client) >= backed_up + len(ids)
        told = await client.notification.ListRecipients(calls.ListRecipientsRequest())
        assert [one.email for one in told.recipients] == [RECIPIENT.email]
        population = await client.profile.GetPopulation(GetPopulationRequest())
        # All but the model that engagement published are customers', and none since the backup is.
        assert population.events == backed_up + len(ids) - 1
        verified = await installation.run("verify", within=120)
        assert verified.code == 0, verified.out
        assert "folds anew" in up.text
    assert up.process.returncode == 0


async def test_a_new_machine_needs_the_secrets_first(tmp_path: Path) -> None:
    old = Installation(tmp_path / "old")
    async with old.up(), old.client() as client:
        await record(client, 100)
    made = await old.run("backup", str(tmp_path / "backup"))  # nothing runs
    assert made.code == 0, made.err
    new = Installation(tmp_path / "new")
    refused = await new.run("restore", str(tmp_path / "backup"))
    assert refused.code == 1
    assert "There are no secrets in" in refused.words
    assert not new.home.exists()
    new.home.mkdir(mode=0o700)
    secrets = json.loads((old.home / "secrets.json").read_text())
    path = new.home / "secrets.json"
    path.write_text(json.dumps(secrets | {"master_key": "00" * 32}))
    refused = await new.run("restore", str(tmp_path / "backup"))
    assert "The master key in" in refused.words
    path.write_text(json.dumps(secrets))
    restored = await new.run("restore", str(tmp_path / "backup"))
    assert restored.code == 0, restored.err
    async with new.up(), new.client() as client:
        await record(client, 1)
        await caught_up(client)
        assert (await new.run("verify", within=120)).code == 0
