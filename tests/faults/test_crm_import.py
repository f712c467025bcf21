"""A generated CRM export, imported by the command, against what plain Python reads in its files.

It takes some 25 seconds, most of them for starting, importing twice and stopping.
"""

import asyncio
import csv
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from libs.cli.stack import CHECKOUT
from tests.cdnow import head
from tests.crm import Crm, Person
from tests.running import Finished, Installation
from touchline.client import Client
from touchline.events.v1.decisions_pb2 import IDENTITY_DECISION_KIND_MERGED
from touchline.events.v1.event_pb2 import EVENT_TYPE_IDENTITY_DECIDED
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    Identity,
)
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.profile_pb2 import Profile, ProfileReference
from touchline.profile.v1.views_pb2 import VIEW_KIND_SERVICE

IN_FLIGHT: Final = 32
KINDS: Final = {
    IDENTITY_KIND_EMAIL: "email",
    IDENTITY_KIND_EXTERNAL_ID: "hubspot",
    IDENTITY_KIND_PHONE: "phone",
}
NUMBERS: Final = {name: kind for kind, name in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Imported:
    """An import that ended, and what it should have come to."""

    installation: Installation
    folder: Path
    crm: Crm
    done: Finished


@pytest.fixture(scope="module")
async def imported(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Imported]:
    """A running installation into which an export was imported."""
    folder = tmp_path_factory.mktemp("crm") / "export"
    program = CHECKOUT / "examples" / "generate_crm.py"
    command = [sys.executable, str(program), "--seed", "7", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221 (before all else)
    installation = Installation(tmp_path_factory.mktemp("running") / "home")
    async with installation.up():
        done = await import_folder(installation, folder)
        yield Imported(installation, folder, Crm(folder), done)


async def test_every_event_is_recorded_and_every_lost_reference_listed(imported: Imported) -> None:
    crm = imported.crm
    assert imported.done.code == 1, imported.done.words  # some references lead nowhere
    handled = sum(1 for _ in crm.events()) + len(crm.merges())
    assert f"{handled + len(audited_twice(crm)):,} events and merges" in imported.done.out
    with (imported.folder.parent / "export.unresolved.csv").open(newline="") as file:
        listed = Counter((r["file"], r["column"], r["refers_to"]) for r in csv.DictReader(file))
    assert listed == crm.unresolved()


async def test_people_are_who_the_files_say_with_what_holds_now(imported: Imported) -> None:
    merges = imported.crm.merges()
    people = imported.crm.people(merges)
    async with imported.installation.client() as client:
        after = await head(client)
        profiles = await each(people, lambda one: profile_of(client, one, after))
    assert len({profile.profile_id for profile in profiles}) == len(people)
    for person, profile in zip(people, profiles, strict=True):
        assert identities_of(profile) == person.identities
        assert {one.name: one.value for one in profile.attributes} == person.traits
        decisions = sum(person.contacts >= set(pair) for pair in merges)
        assert profile.event_count == person.events + decisions


async def test_tickets_are_their_peoples_and_timelines_are_whole(imported: Imported) -> None:
    people = sorted(imported.crm.people(imported.crm.merges()), key=lambda one: min(one.contacts))
    some = [one for one in people if len(one.contacts) > 1] + people[::8]
    async with imported.installation.client() as client:
        views = await each(some, lambda one: service_view(client, one))
        lengths = await each(some, lambda one: timeline_length(client, one))
    for person, view, length in zip(some, views, lengths, strict=True):
        assert not view.truncated
        assert {case.case_id for case in view.service.open_cases} == person.open_cases
        assert length == person.events


async def test_duplicates_that_nobody_merged_are_suggested(imported: Imported) -> None:
    crm = imported.crm
    people = crm.people(crm.merges())
    async with imported.installation.client() as client:
        suggested = await suggestions(client)
    assert suggested == crm.suggestions(people)


async def test_an_unmerge_restores_both_and_the_next_import_leaves_it_so(
    imported: Imported,
) -> None:
    crm, installation = imported.crm, imported.installation
    taken_back = crm.merges()[0]
    left = [pair for pair in crm.merges() if pair != taken_back]
    both = [one for one in crm.people(left) if one.contacts & set(taken_back)]
    assert len(both) == 2
    async with installation.client() as client:
        explained = await client.profile.ExplainIdentities(
            api.ExplainIdentitiesRequest(profile=reference(both[0]))
        )
        [merge] = explained.verdicts
        assert merge.kind == IDENTITY_DECISION_KIND_MERGED
        request = api.UnmergeProfilesRequest(
            decided_by="agent-7",
            reason="A father and his son.",
            profile=api.DecidedProfile(profile=reference(both[0])),
            merge_event_id=merge.event_id,
        )
        answer = await client.profile.UnmergeProfiles(request)
        await are(client, both, answer.result.position)

        again = await import_folder(installation, imported.folder)
        assert again.code == 1
        assert " 0 " in next(line for line in again.out.splitlines() if "in all" in line)
        await are(client, both, await head(client))


async def are(client: Client, people: list[Person], after: int) -> None:
    """Asserts that people are who they should be."""
    for person in people:
        profile = await profile_of(client, person, after)
        assert identities_of(profile) == person.identities
        assert {one.name: one.value for one in profile.attributes} == person.traits
        assert await timeline_length(client, person) == person.events


async def import_folder(installation: Installation, folder: Path) -> Finished:
    """Runs the command, in the folder above the export's."""
    mappings = str(CHECKOUT / "examples" / "hubspot")
    arguments = ("import", str(folder), "--mapping", mappings)
    return await installation.run(*arguments, cwd=folder.parent, within=120)


def audited_twice(crm: Crm) -> list[tuple[str, str]]:
    """Returns the merges that both the audit and the contact tell: the second is a duplicate."""
    audited = {(r["canonical_vid"], r["vid_to_merge"]) for r in crm.rows("contact_merge_audit")}
    listed = [
        (number, other)
        for number, row in crm.contacts.items()
        for other in row["property_hs_merged_object_ids"].split(";")
    ]
    return [pair for pair in listed if pair in audited]


def identity(told: str) -> Identity:
    """Returns the identity of hubspot:NUMBER, email:ADDRESS or phone:NUMBER."""
    kind, _, value = told.partition(":")
    namespace = "hubspot" if kind == "hubspot" else ""
    return Identity(kind=NUMBERS[kind], namespace=namespace, value=value)


def reference(person: Person) -> ProfileReference:
    """Names a person."""
    return ProfileReference(identity=identity(f"hubspot:{min(person.contacts)}"))


def identities_of(profile: Profile) -> set[str]:
    """Returns a profile's identities as plain Python tells them."""
    return {told(one.identity) for one in profile.identities}


def told(one: Identity) -> str:
    """Tells an identity as the files write it."""
    return f"{KINDS[one.kind]}:{one.value}"


async def profile_of(client: Client, person: Person, after: int) -> Profile:
    """Asks who a person is."""
    request = api.GetProfileRequest(profile=reference(person), after_position=after)
    return (await client.profile.GetProfile(request, timeout=60)).profile


async def service_view(client: Client, person: Person) -> api.GetViewResponse:
    """Asks for what service sees."""
    request = api.GetViewRequest(profile=reference(person), view=VIEW_KIND_SERVICE)
    response: api.GetViewResponse = await client.profile.GetView(request)
    return response


async def timeline_length(client: Client, person: Person) -> int:
    """Counts what happened, without decisions about who a person is."""
    request = api.ListTimelineEventsRequest(profile=reference(person), page_size=500)
    response = await client.profile.ListTimelineEvents(request)
    assert not response.next_page_token
    return sum(one.type != EVENT_TYPE_IDENTITY_DECIDED for one in response.entries)


async def suggestions(client: Client) -> set[frozenset[str]]:
    """Returns the pairs that are suggested, each side by its least identity."""
    found: set[frozenset[str]] = set()
    request = api.ListMergeSuggestionsRequest(page_size=500)
    while True:
        response = await client.profile.ListMergeSuggestions(request, timeout=60)
        for one in response.suggestions:
            sides = (one.left.identities, one.right.identities)
            found.add(frozenset(min(told(i.identity) for i in side) for side in sides))
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


async def each(people: Iterable[Person], ask: Callable[[Person], Awaitable[Any]]) -> list[Any]:
    """Asks about each of many people, several at a time."""
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def asked(person: Person) -> Any:
        async with turns:
            return await ask(person)

    return await asyncio.gather(*map(asked, people))
