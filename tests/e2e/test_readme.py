"""The README's gRPC calls, run as they stand, with a client that is no part of Touchline."""

import asyncio
import json
import re

import pytest

from libs.cli.stack import CHECKOUT, INGESTION, PROFILE
from tests.running import Installation

pytestmark = pytest.mark.xdist_group("e2e")

SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def readme_calls() -> list[str]:
    """Returns the shell blocks of the README that call a service."""
    blocks = SHELL_BLOCK.findall((CHECKOUT / "README.md").read_text())
    return [block for block in blocks if "buf curl" in block]


async def shell(script: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "sh", "-eu", "-c", script,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=CHECKOUT,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_buf_curl_records_an_event_and_lists_its_timeline(running: Installation) -> None:
    script = "\n".join(readme_calls())
    assert "IngestionService/RecordEvent" in script
    assert "ProfileService/ListTimelineEvents" in script
    [sent] = set(re.findall(r'"text": "([^"]+)"', script))

    script = script.replace(INGESTION, running.ingestion).replace(PROFILE, running.profile)
    told = await shell(script)
    assert "OUTCOME_RECORDED" in told
    assert sent in told
    assert "EVENT_TYPE_INTERACTION" in told

    again = await shell(script)
    assert "OUTCOME_DUPLICATE" in again


async def test_a_broken_event_is_rejected_with_its_fields(running: Installation) -> None:
    url = f"http://{running.ingestion}/touchline.ingestion.v1.IngestionService/RecordEvent"
    body = '{"event": {"event_id": "none", "source": "test"}}'
    curl = ".venv/bin/buf curl --protocol grpc --http2-prior-knowledge"
    verdict = json.loads(await shell(f"{curl} {url} -d '{body}'"))["verdict"]
    assert verdict["outcome"] == "OUTCOME_REJECTED"
    fields = {violation["field"] for violation in verdict["violations"]}
    assert {"event_id", "identities", "occurred_at"} <= fields
