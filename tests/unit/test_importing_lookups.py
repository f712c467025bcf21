"""Rows that refer to other files, conditions, and merges that rows tell."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc
import pytest
from typer import Typer
from typer.testing import CliRunner

from libs.cli.import_command import import_command
from libs.cli.importing import (
    Decided,
    ImportFileError,
    ImportResult,
    Into,
    MappingError,
    Unresolved,
    checked_steps,
    import_file,
    import_folder,
    load_plan,
)
from libs.cli.importing import joins as joining
from libs.cli.importing.calls import refused
from tests.importing import Files, Store
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.profile.v1.profile_service_pb2 import MergeProfilesRequest

CALLS: Final = """
[file]
format = "csv"
only = { deleted = ["false", ""] }

[lookups.took_part]
file = "parts.csv"
key = "call"
by = "call"
columns = ["contact"]
each = true
report_unused = true

[lookups.contact]
file = "contacts.csv"
key = "id"
by = "took_part.contact"
columns = ["id", "name"]
only = { gone = false }

[event]
source = "crm"
id = { template = "{call} {contact.id}" }
occurred_at = { column = "at", format = ["iso", "%Y-%m-%d %H:%M:%S"], time_zone = "UTC" }

[[identities]]
kind = "external_id"
namespace = "crm"
column = "contact.id"

[[identities]]
kind = "phone"
column = "value"
when = { name = "phone" }

[fact.traits_observed.traits]
name = { column = "contact.name" }
"{name}" = { column = "value", default = "" }
"""
HEADER: Final = "call,at,deleted,name,value\n"
CONTACTS: Final = "id,name,gone\n1,Ada,\n2,Ben,\n3,Cleo,2024\n"
PARTS: Final = "call,contact\nc1,1\nc1,2\nc2,3\nc3,9\nc9,1\n"
MERGES: Final = """
[file]
format = "csv"

[lookups.merged]
file = "contacts.csv"
key = "id"
by = "others"
separator = ";"
each = true

[event]
source = "crm"

[merge]
decided_by = { column = "by", default = "crm" }
reason = "Merged in the CRM"
left = { kind = "external_id", namespace = "crm", column = "id" }
right = { kind = "external_id", namespace = "crm", column = "merged.id" }
"""


class Merges:
    """Makes merges as the profile service does: each id once."""

    def __init__(self) -> None:
        self.made: dict[str, MergeProfilesRequest] = {}

    async def decide(self, request: MergeProfilesRequest) -> Decided:
        return Decided(new=self.made.setdefault(request.decision_id, request) is request)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        sides = [(one.left, one.right) for one in self.made.values()]
        return [(a.profile.identity.value, b.profile.identity.value) for a, b in sides]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contacts.csv").write_text(CONTACTS)
    (tmp_path / "parts.csv").write_text(PARTS)
    return Files(tmp_path)


async def imported(
    files: Files, rows: str, mapping: str = CALLS
) -> tuple[list[Event], ImportResult]:
    return await files.imported(HEADER + rows, mapping)


def listed(folder: Path) -> list[str]:
    path = folder / "rows.txt.unresolved.csv"
    return path.read_text().splitlines()[1:] if path.exists() else []


async def merged(files: Files, rows: str, merges: Merges, mapping: str = MERGES) -> ImportResult:
    (files.folder / "merges.csv").write_text("id,others,by\n" + rows)
    (files.folder / "merges.toml").write_text(mapping)
    into = Into(Store().record, files.console, merges.decide)
    return await import_file(files.folder / "merges.csv", files.folder / "merges.toml", into)


async def test_a_row_becomes_an_event_for_each_that_it_refers_to(files: Files) -> None:
    events, result = await imported(files, "c1,2024-03-01 6:49:18,false,city,Graz\n")

    assert [event.identities[0].value for event in events] == ["1", "2"]
    assert [dict(event.traits_observed.traits) for event in events] == [
        {"name": "Ada", "city": "Graz"},
        {"name": "Ben", "city": "Graz"},
    ]
    assert (result.rows, result.recorded, result.unresolved) == (1, 2, 0)
    assert len({event.event_id for event in events}) == 2


async def test_a_reference_that_leads_nowhere_is_listed_and_the_row_is_unresolved(
    files: Files,
) -> None:
    rows = "c2,2024-03-01,,city,Graz\nc3,2024-03-01,,city,Linz\nc4,2024-03-01,,city,Wien\n"
    events, result = await imported(files, rows)

    assert not events
    assert (result.unresolved, result.broken, result.complete) == (3, 0, False)
    assert listed(files.folder) == [
        "rows.txt,2,took_part.contact,3,contacts.csv id,no",
        "rows.txt,3,took_part.contact,9,contacts.csv id,no",
        "rows.txt,4,call,c4,parts.csv call,no",
        "parts.csv,2,call,c1,rows.txt call,no",
        "parts.csv,3,call,c1,rows.txt call,no",
        "parts.csv,6,call,c9,rows.txt call,no",
    ]


async def test_a_row_with_another_identity_is_recorded_all_the_same(files: Files) -> None:
    events, result = await imported(files, "c2,2024-03-01,,phone,+49 30 23125000\n")

    assert [event.identities[0].value for event in events] == ["+49 30 23125000"]
    assert (result.recorded, result.unresolved, result.complete) == (1, 0, True)
    assert listed(files.folder)[0] == "rows.txt,2,took_part.contact,3,contacts.csv id,yes"


async def test_rows_that_are_not_meant_are_counted_and_what_they_refer_to_is_used(
    files: Files,
) -> None:
    events, result = await imported(files, "c1,2024-03-01,TRUE,city,Graz\n")

    assert not events
    assert (result.rows, result.left_out, result.complete) == (1, 1, True)
    assert not [line for line in listed(files.folder) if ",c1," in line]


async def test_an_empty_value_is_an_observation_where_the_mapping_says_so(files: Files) -> None:
    events, _ = await imported(files, "c1,2024-03-01,,city,\n")

    assert events[0].traits_observed.traits["city"] == ""


async def test_broken_rows_of_a_lookup_file_leave_references_that_lead_nowhere(
    files: Files,
) -> None:
    (files.folder / "contacts.csv").write_text("id,name,gone\n1,Ada\n2,Ben,\n")
    events, result = await imported(files, "c1,2024-03-01,,city,Graz\n")

    assert [event.identities[0].value for event in events] == ["2"]
    assert result.unresolved == 1


async def test_a_lookup_file_that_is_too_long_is_refused(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "MOST_ROWS", 1)
    with pytest.raises(ImportFileError, match="more than 1 rows"):
        await imported(files, "c1,2024-03-01,,city,Graz\n")


async def test_json_lines_refer_to_json_lines(files: Files) -> None:
    (files.folder / "contacts.csv").write_text('{"id": 1, "name": {"first": "Ada"}}\n')
    mapping = """
[file]
format = "jsonl"
[lookups.contact]
file = "contacts.csv"
key = "id"
by = "customer.id"
columns = ["name.first"]
[event]
source = "crm"
occurred_at = "2024-03-01T00:00:00Z"
[[identities]]
kind = "external_id"
namespace = "crm"
column = "customer.id"
[fact.traits_observed.traits]
name = { column = "contact.name.first" }
"""
    events, _ = await files.imported('{"customer": {"id": 1}}\n', mapping)

    assert dict(events[0].traits_observed.traits) == {"name": "Ada"}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('file = "parts.csv"', 'file = "part.csv"', "joins part.csv, which is not in"),
        ('columns = ["contact"]', 'columns = ["contacts"]', 'the file has no column "contacts"'),
        ('key = "id"', 'kee = "id"', "unknown key"),
        ('by = "call"', "", "must be text in quotes"),
        ("each = true", "each = 1", "must be true or false"),
        ("only = { gone = false }", "only = { gone = 1 }", "must be a text, a list of texts"),
        ("only = { gone = false }", 'only = { went = "x" }', 'the file has no column "went"'),
        ("only = { gone = false }", "only = {}", "must be a table such as"),
        ('when = { name = "phone" }', 'when = { nam = "phone" }', 'Did you mean "name"?'),
        ('by = "took_part.contact"', 'by = "part.contact"', 'no column "part.contact"'),
        ('format = ["iso", ', 'format = ["isoo", ', 'Did you mean "iso"?'),
    ],
    ids=str,
)
async def test_a_wrong_lookup_sends_nothing(files: Files, old: str, new: str, problem: str) -> None:
    assert old in CALLS
    with pytest.raises((MappingError, ImportFileError)) as caught:
        await imported(files, "c1,2024-03-01,,city,Graz\n", CALLS.replace(old, new))
    assert problem in str(caught.value)


async def test_a_merge_is_decided_once_however_often_it_is_told(files: Files) -> None:
    merges = Merges()
    first = await merged(files, "1,2; 3,agent-7\n2,,\n", merges)
    second = await merged(files, "1,3,agent-8\n", merges)

    assert merges.pairs == [("1", "2"), ("1", "3")]
    assert (first.recorded, first.broken, second.recorded, second.duplicates) == (2, 1, 0, 1)
    [one, _] = merges.made.values()
    assert (one.decided_by, one.reason) == ("agent-7", "Merged in the CRM")


async def test_a_merge_with_a_contact_that_is_not_there_is_unresolved(files: Files) -> None:
    merges = Merges()
    result = await merged(files, "1,2;99,\n", merges)

    assert merges.pairs == [("1", "2")]
    assert (result.recorded, result.unresolved) == (1, 1)


async def test_a_merge_that_the_service_refuses_is_reported(files: Files) -> None:
    class Strict(Merges):
        async def decide(self, _: MergeProfilesRequest) -> Decided:
            return Decided(new=False, problem="one of the two is no profile")

    result = await merged(files, "1,2,\n", Strict())

    assert result.rejected == 1
    assert "line 2 rejected: one of the two is no profile" in files.printed()


def test_a_merge_told_before_is_one_and_a_silent_service_stops_the_import() -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    twice = CallFailed(
        invalid, "…", reason="INVALID_REQUEST", violations=(("decision_id", "names another"),)
    )
    one = CallFailed(grpc.StatusCode.FAILED_PRECONDITION, "…", reason="SAME_PROFILE")
    wrong = CallFailed(
        invalid, "wrong", reason="INVALID_REQUEST", violations=(("decided_by", "is empty"),)
    )

    assert refused(twice) == refused(one) == Decided(new=False)
    assert "wrong" in refused(wrong).problem
    with pytest.raises(CallFailed, match="name it with --profile"):
        refused(CallFailed(grpc.StatusCode.UNAVAILABLE, "…"))
    with pytest.raises(CallFailed, match="behind"):
        refused(CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "behind"))


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('reason = "Merged in the CRM"\n', "", "reason: is missing"),
        ("[merge]", "[merge]\nwhy = 1", "why: unknown key"),
        ("[merge]", "[fact.note_added]\n[merge]", "does not go with [merge]"),
        ('source = "crm"', 'source = "crm"\noccurred_at = "2024-01-01T00:00Z"', "unknown key"),
    ],
    ids=str,
)
async def test_a_wrong_merge_sends_nothing(files: Files, old: str, new: str, problem: str) -> None:
    with pytest.raises(MappingError) as caught:
        await merged(files, "1,2,\n", Merges(), MERGES.replace(old, new))
    assert problem in str(caught.value)


async def test_what_is_no_address_is_one_only_if_the_export_is_anonymised(files: Files) -> None:
    mapping = """
[file]
format = "csv"
[event]
source = "crm"
occurred_at = "2024-03-01T00:00:00Z"
[[identities]]
kind = "email"
column = "email"
[fact.note_added]
text = "x"
"""
    (files.folder / "m.toml").write_text(mapping)
    (files.folder / "m.csv").write_text("email,x\njr+Mt/==,1\nada@example.com,1\n")

    async def kinds(anonymised: str) -> Sequence[tuple[int, str]]:
        store = Store()
        into = Into(store.record, files.console, anonymised=anonymised)
        await import_file(files.folder / "m.csv", files.folder / "m.toml", into)
        return [(e.identities[0].kind, e.identities[0].namespace) for e in store.all]

    assert await kinds("") == [(2, ""), (2, "")]
    assert await kinds("hidden") == [(1, "hidden"), (2, "")]


async def test_a_folder_is_imported_in_the_order_of_its_plan(files: Files) -> None:
    (files.folder / "calls.csv").write_text(HEADER + "c1,2024-03-01,,city,Graz\n")
    (files.folder / "calls.toml").write_text(CALLS)
    (files.folder / "plan.toml").write_text(
        '[[steps]]\nfile = "absent.csv"\nmapping = "calls.toml"\n'
        '[[steps]]\nfile = "calls.csv"\nmapping = "calls.toml"\n'
    )
    store = Store()
    into = Into(store.record, files.console)
    plan = load_plan(files.folder / "plan.toml")
    steps = checked_steps(files.folder, plan, into)
    done = await import_folder(plan, steps, into, Unresolved(files.folder / "u.csv"))

    assert [(one.file, one.result and one.result.recorded) for one in done] == [
        ("absent.csv", None),
        ("calls.csv", 2),
    ]
    with (files.folder / "u.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["parts.csv"] * 3


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        ("", "needs tables [[steps]]"),
        ('[[steps]]\nfile = "a.csv"\n', "mapping: must be text"),
        ('[[steps]]\nfile = "a.csv"\nmapping = "m.toml"\n', "has none of the files of the plan"),
        ('[[steps]]\nfile = "rows.csv"\nmapping = "m.toml"\n', "m.toml: can't be read"),
        ("types = 1\n", "types: must be a list"),
        ("steps = ", "is no TOML"),
    ],
    ids=str,
)
def test_a_wrong_plan_sends_nothing_and_exits_2(files: Files, plan: str, problem: str) -> None:
    app = Typer()
    app.command()(import_command)
    (files.folder / "plan.toml").write_text(plan)
    (files.folder / "rows.csv").write_text(HEADER)

    done = CliRunner().invoke(app, [".", "--mapping", "plan.toml"])
    assert done.exit_code == 2
    assert problem in done.output
    assert "Nothing was sent" in done.output


def test_a_list_that_cannot_be_written_is_said_and_stops_nothing(tmp_path: Path) -> None:
    unresolved = Unresolved(tmp_path / "none" / "u.csv")
    unresolved.add("a.csv", 2, "id", "7", "b.csv id", recorded=False)
    unresolved.close()

    assert unresolved.count == 1
    assert "can't be written" in unresolved.unwritable
