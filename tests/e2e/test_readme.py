"""The README's gRPC calls, run as they stand, with a client that is no part of Touchline."""

import asyncio
import contextlib
import json
import re

from libs.cli.stack import CHECKOUT, DEFAULTS
from tests.running import Installation

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
    if process.returncode:
        raise ShellFailed(err.decode())
    return out.decode()


class ShellFailed(Exception):
    """A script ended with another code than 0; its errors are the message."""


async def test_buf_curl_records_an_event_and_lists_its_timeline(running: Installation) -> None:
    record, timeline = (
        call.replace(DEFAULTS["ingestion"], running.ingestion).replace(
            DEFAULTS["profile"], running.profile
        )
        for call in readme_calls()
    )
    assert "IngestionService/RecordEvent" in record
    assert "ProfileService/ListTimelineEvents" in timeline
    [text] = re.findall(r'"text": "([^"]+)"', record)

    assert "OUTCOME_RECORDED" in await shell(record)
    async with asyncio.timeout(30):
        while True:  # a person types slower than the projection is
            with contextlib.suppress(ShellFailed):
                told = await shell(timeline)
                break
            await asyncio.sleep(0.1)
    assert text in told
    assert "EVENT_TYPE_INTERACTION" in told
    assert "OUTCOME_DUPLICATE" in await shell(record)


async def test_a_broken_event_is_rejected_with_its_fields(running: Installation) -> None:
    url = f"http://{running.ingestion}/touchline.ingestion.v1.IngestionService/RecordEvent"
    body = '{"event": {"event_id": "none", "source": "test"}}'
    curl = ".venv/bin/buf curl --protocol grpc --http2-prior-knowledge"
    verdict = json.loads(await shell(f"{curl} {url} -d '{body}'"))["verdict"]
    assert verdict["outcome"] == "OUTCOME_REJECTED"
    fields = {violation["field"] for violation in verdict["violations"]}
    assert {"event_id", "identities", "occurred_at"} <= fields
