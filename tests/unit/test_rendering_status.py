"""Status, logs, tail and start-up are readable and tell the truth."""

import json
from datetime import UTC

import pytest
from rich.console import RenderableType

from libs.cli.rendering.logs import log_line
from libs.cli.rendering.startup import started
from libs.cli.rendering.status import rejected_table, status_table
from libs.cli.rendering.tail import tail_line
from tests.terminal import NOW, joined, shown
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.ingestion.v1 import ingestion_pb2 as ingestion
from touchline.profile.v1 import profile_service_pb2 as profiles
from touchline.projection.v1 import projection_pb2 as projection
from touchline.store.v1 import store_pb2 as store

STORE = ingestion.StoreStatus(
    store_id=bytes(range(16)), head_position=71_853, rejected_events=2, relayed_position=71_850
)
GRAPH = projection.Projection(
    name="identity_graph",
    position=71_853,
    chain=b"g" * 32,
    state=projection.PROJECTION_STATE_LIVE,
)
TIMELINE = projection.Projection(
    name="timeline",
    position=71_840,
    chain=b"t" * 32,
    state=projection.PROJECTION_STATE_CATCHING_UP,
)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_status_shows_head_queue_lag_and_state(width: int) -> None:
    population = profiles.GetPopulationResponse(profiles=301, identities=1506, events=71_853)
    table = status_table(STORE, {"profile": [GRAPH, TIMELINE]}, now=NOW, population=population)
    text = joined(shown(table, width))
    assert "head 71,853 queue 0 rejected 2 not relayed 3" in text
    assert "71,853 events · 301 profiles · 1,506 identities" in text
    assert "profile/identity_graph 71,853 0 ● live never" in text
    assert "profile/timeline 71,840 13 ○ catching up" in text


def test_status_says_why_a_projection_halted() -> None:
    halted = projection.Projection(
        name="timeline", state=projection.PROJECTION_STATE_HALTED, halt_reason="another chain"
    )
    text = shown(status_table(STORE, {"profile": [halted]}, now=NOW))
    assert "✗ halted" in text
    assert "profile/timeline halted: another chain" in text


def test_status_of_an_empty_store_without_projections_is_shown() -> None:
    assert "not opened yet" in shown(status_table(ingestion.StoreStatus(), {}, now=NOW), 80)


def test_rejected_events_show_the_rule_but_not_the_content() -> None:
    one = ingestion.RejectedEvent(rejected_id=7, event=ev.Event(event_id="e-1", source="shop"))
    one.event.note_added.text = "her secret"
    one.violations.add(field="identities[0].value", description="is no email address")
    one.violations.add(field="occurred_at", description="is before 1970")
    one.rejected_at.FromDatetime(NOW)
    text = shown(rejected_table([one], now=NOW), 80)
    for shown_part in ("e-1", "note_added from shop", "identities[0].value", "before 1970"):
        assert shown_part in text
    assert "secret" not in text
    assert "nothing was rejected" in shown(rejected_table([], now=NOW))


def test_our_log_lines_become_readable() -> None:
    line = {
        "time": "2026-11-03T10:00:00.123456Z",
        "level": "warning",
        "event": "projection waits",
        "service": "profile",
        "projection": "timeline",
        "retry_after": 0.5,
    }
    text = log_line(json.dumps(line), zone=UTC)
    assert text.plain == (
        "10:00:00  profile       warning projection waits  projection=timeline  retry_after=0.5"
    )


def test_where_an_error_was_raised_stands_on_lines_of_its_own() -> None:
    line = {
        "level": "error",
        "event": "failed",
        "error": "KeyError",
        "frames": ["a.py:1 f", "b.py:2"],
    }
    first, *places = log_line(json.dumps(line), "ingestion").plain.splitlines()
    assert first.endswith("error failed  error=KeyError")
    assert [place.strip() for place in places] == ["a.py:1 f", "b.py:2"]
    assert "\n" not in log_line(json.dumps({**line, "level": "warning"})).plain


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2026-11-03 10:00:00.12 UTC [42] LOG:  ready to accept", "LOG: ready to accept"),
        ("[42] 2026/11/03 10:00:00.123456 [INF] Server is ready", "[INF] Server is ready"),
        ("anything \x1b[31mat all", "anything [31mat all"),
        ('{"no": "event"}', '{"no": "event"}'),
        ("{broken", "{broken"),
        ('["list"]', '["list"]'),
        ("", ""),
    ],
)
def test_lines_of_servers_keep_their_message_and_lose_their_preamble(line: str, said: str) -> None:
    assert log_line(line, "server").plain.split("server", 1)[1].strip() == said


def test_a_long_foreign_line_is_shortened() -> None:
    assert len(log_line("word " * 500, "postgres").plain) < 240


def test_a_tail_line_tells_an_envelope_within_eighty_columns() -> None:
    record = store.RecordedEvent(
        owner_key=b"\x9f\x2c\x41\x00" * 4,
        channel=facts.CHANNEL_IN_PERSON,
        direction=facts.DIRECTION_INBOUND,
        visibility=facts.VISIBILITY_PUBLIC,
        historical=True,
    )
    packed = store.PackedEvent(
        type=ev.EVENT_TYPE_EXPECTATION_RESOLVED,
        recorded_at_us=int(NOW.timestamp()) * 1_000_000 + 250_000,
        record=record.SerializeToString(),
    )
    text = shown(tail_line(71_853, packed, zone=UTC), 80)
    assert joined(text) == (
        "71,853 15:20:00.250 ● expectation resolved in person inbound pub past 9f2c4100"
    )


def test_start_up_says_where_everything_is_and_how_to_stop_it() -> None:
    home = "/home/me/" + "deep/" * 40
    panel: RenderableType = started({"ingestion": "127.0.0.1:7410"}, home, "bin/touchline")
    text = shown(panel, 80)
    assert "ingestion   127.0.0.1:7410" in text
    assert "Ctrl-C" in text
    whole_lines = [line.strip() for line in text.splitlines()]
    example = "import examples/contacts.csv --mapping examples/contacts.toml"
    assert f"bin/touchline {example}" in whole_lines
