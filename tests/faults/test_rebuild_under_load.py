"""Every projection of every service is rebuilt while people read it: nobody notices.

The same with 500 reads and 1,000 events a second, and what it costs the readers, is in `make bench`
(`--only rebuild_load`); here it is small enough to run each time.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.bench import events as made
from tests.faults.cluster import INGESTION, open_cluster
from tests.rebuilding import foldings, load, projections, rebuilt_twice_and_rolled_back
from touchline.client import Client
from touchline.projection.v1.projection_pb2 import GENERATION_STATE_SERVING, Generation

CUSTOMERS = 200
EVENTS = 6_000


@pytest.mark.timeout(300)
async def test_rebuilding_and_switching_everything_twice_is_noticed_by_nobody(
    tmp_path: Path,
) -> None:
    async with open_cluster(tmp_path, None) as cluster:
        addresses = cluster.addresses
        async with Client.connect(
            ",".join(addresses[member] for member in INGESTION),
            addresses["profile"],
            engagement=addresses["engagement"],
            notification=addresses["notification"],
        ) as client:
            await client.record(made.events(EVENTS, CUSTOMERS))
            names = await foldings(client)
            assert {f"{service}/{name.partition(':')[0]}" for service, name in names} == {
                *("profile/identity_graph", "profile/timeline", "profile/consents"),
                *("profile/attributes", "engagement/identity_graph", "engagement/models"),
                *("engagement/scores", "notification/identity_graph", "notification/timeline"),
                *("notification/consents", "notification/notifications"),
            }
            before = {one: await _serving(client, *one) for one in names}
            async with load(client, CUSTOMERS, reads=25, events=60, probes=0.5) as told:
                for service, name in names:
                    workers = random.Random(name).choice((1, 2))
                    rows = await rebuilt_twice_and_rolled_back(told, service, name, workers, print)
                    assert rows, f"{service}/{name} has no rows to compare"
            assert not told.failed
            assert not told.stale
            assert told.reads > EVENTS // 20
            for one in names:
                assert (await _serving(client, *one)).generation > before[one].generation


async def _serving(client: Client, service: str, name: str) -> Generation:
    """The generation that answers: the second that was built is the one rolled back from."""
    (found,) = [one for one in await projections(client, service) if one.name == name]
    (serving,) = [one for one in found.generations if one.state == GENERATION_STATE_SERVING]
    return serving
