"""The commands about who is who, consents, erasure and export, beside a running `touchline up`.

Every test uses identities of its own.
"""

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs.cli.exporting import LINES, PAGE
from tests.customers import email, number_in, record
from tests.running import Installation
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.uuid7 import uuid7

EVENT = re.compile(r"decision ([0-9a-f-]{36})")
SUGGESTION = re.compile(r"[0-9a-f]{64}")


def happened(days_ago: int, *who: Identity, **fact: object) -> Event:
    event = Event(event_id=uuid7(), source="crm", identities=who, **fact)  # type: ignore[arg-type]
    event.occurred_at.FromDatetime(datetime.now(UTC) - timedelta(days=days_ago))
    return event


def learned(days_ago: int, *who: Identity, **traits: str) -> Event:
    return happened(days_ago, *who, traits_observed=facts.TraitsObserved(traits=traits))


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def recorded(running: Installation, *events: Event) -> None:
    async with running.client() as client:
        await record(client, *events)
    await running.settled()


async def test_a_suggestion_is_shown_accepted_taken_back_and_stays_apart(
    running: Installation,
) -> None:
    one, other = email("olga@one.example"), email("olga@two.example")
    number = number_in("crm", "O1")
    await recorded(
        running,
        learned(9, one, number, name="Olga Ott"),
        learned(8, other, name="O. Ott"),
        learned(7, one, other, city="Graz"),
    )
    listed = await running.run("suggestions", "--of", "olga@one.example")
    assert "Olga Ott" in listed.words
    assert "▲ clashes" in listed.words
    [suggestion] = SUGGESTION.findall(listed.out)
    accepted = await running.tell("suggestions", "accept", suggestion, "--because", "She said so")
    assert "✓ accepted: they are one person" in accepted.words
    [merge] = EVENT.findall(accepted.words)
    one_person = await running.run("profile", "olga@two.example", "--why")
    for told in ("version 1", "crm O1", "✓ joins", "decided", "She said so"):
        assert told in one_person.words
    again = await running.run("suggestions", "accept", suggestion, "--because", "Twice")
    assert again.code == 1

    undone = await running.tell(
        "unmerge", "crm:O1", "--merge", merge, "--because", "Sisters", "--by", "agent-7"
    )
    assert "✓ taken apart: they are two persons" in undone.words
    assert "suggested" in (await running.run("suggestions", "--of", "crm:O1")).words
    between = ("--between", "olga@one.example", "olga@two.example")
    why = await running.run("profile", "olga@one.example", *between)
    for told in ("✗ cut", "agent-7", "Sisters", "taken back"):
        assert told in why.words


async def test_customers_are_merged_and_an_identity_is_detached(running: Installation) -> None:
    one, other, card = email("paul@one.example"), email("paul@two.example"), number_in("card", "P1")
    await recorded(running, learned(9, one, card, name="Paul"), learned(8, other, city="Linz"))
    merged = await running.run("merge", "paul@one.example", "card:P1", "--because", "The same")
    assert merged.code == 1
    assert "SAME_PROFILE" in merged.err
    pair = ("paul@one.example", "paul@two.example")
    merged = await running.tell("merge", *pair, "--because", "The same", "--by", "agent-7")
    assert "✓ merged: they are one person" in merged.words
    assert "City Linz" in (await running.run("profile", "card:P1")).words

    detached = await running.tell("detach", "card:P1", "card:P1", "--because", "His wife's")
    assert "✓ detached: it is somebody else's" in detached.words
    assert "Identities 2" in (await running.run("profile", "paul@two.example")).words
    apart = await running.run("unmerge", pair[0], "--between", *pair, "--because", "Namesakes")
    assert "✓ taken apart" in apart.words


async def test_consents_say_what_decides_and_what_was_said(running: Installation) -> None:
    address, number = email("rosa@example.com"), number_in("crm", "R1")
    yes, no = facts.CONSENT_STATUS_GRANTED, facts.CONSENT_STATUS_WITHDRAWN
    said = [facts.ConsentChanged(purpose="news", status=status) for status in (yes, no)]
    await recorded(
        running,
        happened(3, address, consent_changed=said[0]),
        happened(4, number, consent_changed=said[1]),
        learned(5, address, number, city="Graz"),
    )
    told = await running.run("consents", "rosa@example.com")
    assert "✗ forbidden News by every channel" in told.words
    assert "✓ allowed News by every channel" in told.words
    before = await running.run("consents", "crm:R1", "--as-of", "2020-01-01")
    assert "nothing was said" in before.words


async def test_a_customer_is_exported_for_a_program_and_for_a_person(
    running: Installation, tmp_path: Path
) -> None:
    await recorded(running, learned(3, email("sara@example.com"), note="<script>alert(1)</script>"))
    to_here = ("export", "sara@example.com", "--out", "sara")
    done = await running.run(*to_here, cwd=tmp_path)
    assert "✓ exported 1 entry" in done.words
    lines = (tmp_path / "sara" / LINES).read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == [
        "profile", "attribute_value", "entry", "end",
    ]  # fmt: skip
    page = (tmp_path / "sara" / PAGE).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    twice = await running.run(*to_here, cwd=tmp_path)
    assert twice.code == 1
    assert "--force" in twice.err
    assert (await running.run(*to_here, "--force", cwd=tmp_path)).code == 0
    assert names_in(tmp_path) == ["sara"]


async def test_a_customer_is_erased_and_a_certificate_says_what_is_left(
    running: Installation, tmp_path: Path
) -> None:
    await recorded(
        running, learned(3, email("tom@example.com"), number_in("crm", "T1"), name="Tom")
    )
    asked = ("erase", "tom@example.com", "--reason", "R-17", "--by", "dpo-1")
    nobody_to_ask = await running.run(*asked, cwd=tmp_path)
    assert nobody_to_ask.code == 1
    assert "erases 1 event, and all identities" in nobody_to_ask.words
    assert "Nothing was erased." in nobody_to_ask.words

    for bound, words in (("--before", "erases 0 events before"), ("--from", "erases 1 event from")):
        within = await running.run(*asked, bound, "2001-02-03", cwd=tmp_path)
        assert words in within.words
    bounded = (*asked, "--before", "2001-02-03", "--yes", "--certificate", "bounded.json")
    assert (await running.run(*bounded, cwd=tmp_path)).code == 0
    told = json.loads((tmp_path / "bounded.json").read_text())["erased"]
    assert (list(told["occurred"]), told["kept_events"]) == (["before"], "1")
    (tmp_path / "bounded.json").unlink()

    erased = await running.run(*asked, "--yes", cwd=tmp_path)
    assert erased.code == 0, erased.words
    assert "✓ Erased, and nothing is left that could tell of the customer" in erased.words
    for service in ("ingestion", "profile", "engagement", "notification"):
        assert f"✓ {service} 0" in erased.words
    [name] = names_in(tmp_path)
    file = tmp_path / name
    assert json.loads(file.read_text())["nothing_left"] is True
    assert "tom@example.com" not in file.read_text() + erased.out

    assert "what is left names nobody" in (await running.run("profile", "crm:T1")).words
    for refused in (("export", "crm:T1", "--out", "tom"), (*asked, "--yes")):
        again = await running.run(*refused, cwd=tmp_path)
        assert again.code == 1
        assert "PROFILE_ERASED" in again.err
    for check in ("--check", "--again"):
        checked = await running.run("erase", check, file.name, cwd=tmp_path)
        assert checked.code == 0, checked.words
    told = json.loads(file.read_text())
    told["erased"]["identity_keys"].insert(0, "00" * 16)  # the line never knew it
    file.write_text(json.dumps(told))
    assert (await running.run("erase", "--again", file.name, cwd=tmp_path)).code == 0
    profile_id = told["erased"]["profile_id"]
    assert json.loads(file.read_text())["erased"]["profile_id"] == profile_id != ""
    assert names_in(tmp_path) == [name]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("merge nobody@example.com no@example.com --because x", "No customer is known by that."),
        ("suggestions reject 00 --because x", "INVALID_REQUEST"),
        ("export nobody@example.com --out README.md", "is there already"),
    ],
)
async def test_what_cannot_be_done_is_said_without_a_traceback(
    running: Installation, arguments: str, complaint: str
) -> None:
    done = await running.run(*shlex.split(arguments))
    assert complaint in done.words
    assert done.code == 1
    assert "Traceback" not in done.words
