import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from libs import telemetry
from libs.telemetry import failures, messaging
from libs.telemetry.console import ConsoleRenderer

CHECKOUT = Path(__file__).parents[2]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRET = "ada@example.org"

A_PROCESS = f"""
import logging
import structlog
from libs import telemetry

telemetry.setup("ingestion")
telemetry.carry("{TRACEPARENT}")
log = structlog.get_logger()
log.debug("not shown")
log.info("listening", port=7410)
try:
    raise KeyError("{SECRET}")
except KeyError:
    log.exception("failed")
    logging.getLogger("nats").exception("also failed")
"""


def lines_of_a_process(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", A_PROCESS],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_where_nobody_looks_a_log_line_is_json_with_its_trace() -> None:
    listening, failed, foreign = [json.loads(line) for line in lines_of_a_process()]
    assert (listening["event"], listening["port"], listening["level"]) == (
        "listening",
        7410,
        "info",
    )
    assert listening["service"] == "ingestion"
    assert listening["trace_id"] == TRACEPARENT[3:35]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", listening["time"])
    assert (failed["error"], failed["frames"]) == ("KeyError", ["<string>:12 <module>"])
    assert (foreign["event"], foreign["logger"], foreign["error"]) == (
        "also failed",
        "nats",
        "KeyError",
    )


def test_no_log_line_holds_the_text_of_an_exception() -> None:
    for chosen in ("json", "console"):
        assert SECRET not in "".join(lines_of_a_process(TOUCHLINE_LOG=chosen))


def test_a_console_line_reads_time_service_event_and_values() -> None:
    first = lines_of_a_process(TOUCHLINE_LOG="console")[0]
    expected = r"\d\d:\d\d:\d\d\.\d{3}  ingestion      listening +port=7410 trace=4bf92f35"
    assert re.fullmatch(expected, first)


def test_the_level_is_chosen_by_a_variable() -> None:
    assert any("not shown" in line for line in lines_of_a_process(TOUCHLINE_LOG_LEVEL="debug"))


def test_a_wrong_setting_is_named_with_the_right_ones() -> None:
    last = lines_of_a_process(TOUCHLINE_LOG="yaml")[-1]
    assert "TOUCHLINE_LOG must be one of json, console; it is 'yaml'" in last


def test_colours_mark_trouble_and_can_be_left_out() -> None:
    fields: dict[str, Any] = {
        "service": "profile",
        "level": "error",
        "event": "halted",
        "reason": "chain differs",
        "frames": ["a.py:1 f"],
    }
    plain = ConsoleRenderer(colours=False)(None, "", dict(fields))
    coloured = ConsoleRenderer(colours=True)(None, "", dict(fields))
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    assert "✗ halted" in plain
    assert plain.splitlines()[0].endswith("reason='chain differs'")
    assert plain.splitlines()[1].strip() == "a.py:1 f"


def test_a_failure_is_described_by_kinds_and_codes() -> None:
    try:
        try:
            raise FileNotFoundError(2, SECRET)
        except OSError as cause:
            raise ValueError(SECRET) from cause
    except ValueError as error:
        described, frames = failures.described(error), failures.frames(error)
    assert described == "ValueError from FileNotFoundError (No such file or directory)"
    assert frames[0].startswith("tests/unit/test_telemetry.py:")


@pytest.mark.parametrize(
    "wrong",
    ["", "00", TRACEPARENT.upper(), "ff" + TRACEPARENT[2:], f"00-{'0' * 32}-{'1' * 16}-01", "é"],
)
def test_a_malformed_traceparent_counts_as_none(wrong: str) -> None:
    telemetry.carry(wrong)
    assert telemetry.current_traceparent() == ""
    assert messaging.traceparent_in({"traceparent": wrong}) == ""


def test_without_an_exporter_a_single_trace_is_carried_through_processing() -> None:
    with messaging.process("touchline.feed", ["", TRACEPARENT, TRACEPARENT]):
        assert telemetry.current_traceparent() == TRACEPARENT
        assert messaging.headers_with_trace() == {"traceparent": TRACEPARENT}
    assert telemetry.current_traceparent() == ""
    with messaging.process("touchline.feed", []):
        assert messaging.headers_with_trace({"a": "b"}) == {"a": "b"}


def test_traces_are_kept_also_from_callers_of_a_later_version() -> None:
    telemetry.carry("01" + TRACEPARENT[2:])
    assert telemetry.current_trace_id() == TRACEPARENT[3:35]
    telemetry.carry("")
