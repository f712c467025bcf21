"""The commands about types of custom events and about what was rejected."""

import json
from pathlib import Path

from google.protobuf import json_format

from libs.cli.stack import CHECKOUT
from tests.events import an_event
from tests.running import Installation
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_REJECTED
from touchline.ingestion.v1.ingestion_service_pb2 import ListRejectedEventsRequest

EXAMPLE = CHECKOUT / "examples" / "types" / "webinar-attended.json"


def attended(properties: str, email: str) -> Event:
    """An event of a type that is named after its customer, so that no other test knows it."""
    event = an_event("custom_event", email=email)
    event.custom_event.properties_json = properties
    return event


async def numbers(running: Installation, *events: Event) -> list[str]:
    """Records events that are rejected, and returns their numbers."""
    async with running.client() as client:
        verdicts = await client.record(events)
        assert {verdict.outcome for verdict in verdicts} == {OUTCOME_REJECTED}
        listed = await client.ingestion.ListRejectedEvents(ListRejectedEventsRequest())
    found = {one.event.event_id: one.rejected_id for one in listed.rejected_events}
    return [str(found[event.event_id]) for event in events]


async def test_a_type_is_registered_and_its_events_recorded_corrected_or_discarded(
    running: Installation, tmp_path: Path
) -> None:
    kept = '{"title": "Glazing", "minutes": 42, "fee": 9.90}'
    good = attended(kept, "web@example.com")
    bad = attended('{"title": "Firing", "minutes": -1}', "web@example.com")
    worse = attended('{"minutes": "secretly"}', "web@example.com")
    first, second, third = await numbers(running, good, bad, worse)

    registered = await running.run("types", "register", str(EXAMPLE))
    assert (registered.code, registered.words) == (0, "✓ type webinar.attended v1")
    assert "as it was" in (await running.run("types", "register", str(EXAMPLE))).words
    shown = await running.run("types", "show", "webinar.attended")
    assert json.loads(shown.out) == json.loads(EXAMPLE.read_text("utf-8"))
    assert "◇ webinar.attended The customer took part" in (await running.run("types")).words

    retried = await running.run("rejected", "retry", first, second, third)
    assert retried.code == 1
    assert "✓ 1 recorded ✗ 2 still rejected" in retried.words
    assert "custom_event.properties_json#/minutes is less than 0" in retried.words

    shown = await running.run("rejected", "show", second)
    assert f"Rejected event {second}" in shown.words
    assert "/minutes is less than 0" in shown.words
    file = tmp_path / "event.json"
    file.write_text((await running.run("rejected", "show", second, "--json")).out)
    assert json_format.Parse(file.read_text(), Event()) == bad
    still = await running.run("rejected", "correct", second, str(file))
    assert (still.code, "is as it was" in still.words) == (1, True)
    file.write_text(file.read_text().replace(": -1}", ": 1}"))
    assert (
        f"in the place of rejected event {second}"
        in (await running.run("rejected", "correct", second, str(file))).words
    )

    assert "secretly" not in (await running.run("rejected")).out
    discarded = await running.run("rejected", "discard", third, first, "--yes")
    assert discarded.words == "✓ discarded 1 rejected event; 1 were not there"
    gone = await running.run("rejected", "show", third)
    assert (gone.code, "No rejected event has the number" in gone.err) == (1, True)

    timeline = await running.run("timeline", "web@example.com")
    assert "Webinar attended" in timeline.words
    assert "title: Glazing · minutes: 42 · fee: 9.90" in timeline.words


async def test_a_schema_that_is_none_is_refused_with_its_place(
    running: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "type.json"
    file.write_text('{"name": "refused.type", "schema": {"type": "strin"}}')
    done = await running.run("types", "register", str(file))
    assert done.code == 1
    assert "event_type.json_schema#/type" in done.err
