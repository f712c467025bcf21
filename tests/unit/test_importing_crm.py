"""The import of a CRM's export by the mappings of examples/hubspot, against plain Python."""

import csv
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from rich.console import Console

from libs.cli.importing import (
    Decided,
    Into,
    StepResult,
    Unresolved,
    checked_steps,
    import_folder,
    load_plan,
)
from libs.cli.stack import CHECKOUT
from tests.crm import Crm
from tests.importing import Store
from touchline.profile.v1.profile_service_pb2 import MergeProfilesRequest

MAPPINGS: Final = CHECKOUT / "examples" / "hubspot"
SAMPLE: Final = CHECKOUT.parent / "shared" / "data" / "hubspot"

needs_the_sample: Final = [
    pytest.mark.real_input,
    pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not part of the project"),
]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that examples/generate_crm.py wrote."""
    folder = tmp_path_factory.mktemp("crm")
    generate(folder)
    return folder


class Imports:
    """Imports into a store and a list of merges that stay."""

    def __init__(self, working: Path) -> None:
        self.store = Store()
        self.merges: dict[str, MergeProfilesRequest] = {}
        self.unresolved = working / "unresolved.csv"

    async def run(self, folder: Path) -> list[StepResult]:
        """Imports a folder."""
        console = Console(quiet=True)
        into = Into(self.store.record, console, self._decide, anonymised="hubspot-email")
        plan = load_plan(MAPPINGS)
        steps = checked_steps(folder, plan, into)
        return await import_folder(plan, steps, into, Unresolved(self.unresolved))

    async def _decide(self, request: MergeProfilesRequest) -> Decided:
        first = self.merges.setdefault(request.decision_id, request)
        return Decided(new=first is request)


@dataclass(frozen=True, slots=True)
class Imported:
    """An export, what its files say, and its import."""

    folder: Path
    crm: Crm
    imports: Imports
    done: list[StepResult]


@pytest.fixture(
    scope="module", params=["generated", pytest.param("sample", marks=needs_the_sample)]
)
async def imported(
    request: pytest.FixtureRequest, generated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Imported:
    """A generated export, and a real one, most references of which lead nowhere; imported."""
    folder = SAMPLE if request.param == "sample" else generated
    imports = Imports(tmp_path_factory.mktemp("imported"))
    return Imported(folder, Crm(folder), imports, await imports.run(folder))


def test_every_row_becomes_what_the_files_say(imported: Imported) -> None:
    crm, imports, done = imported.crm, imported.imports, imported.done

    expected = Counter(fact for _, fact in crm.events())
    assert Counter(event.WhichOneof("fact") for event in imports.store.all) == expected
    per_identity = Counter(event.identities[0].value for event in imports.store.all)
    assert per_identity == Counter(whom for whom, _ in crm.events())
    merged = [
        (one.left.profile.identity.value, one.right.profile.identity.value)
        for one in imports.merges.values()
    ]
    assert sorted(merged) == sorted(crm.merges())
    for step in done:
        assert step.result
        refused = step.result.rejected + step.result.broken + step.result.conflicts
        assert refused == 0, step


def test_every_reference_that_leads_nowhere_is_listed_one_by_one(imported: Imported) -> None:
    with imported.imports.unresolved.open(newline="") as file:
        listed = list(csv.DictReader(file))
    counted = Counter((one["file"], one["column"], one["refers_to"]) for one in listed)
    assert counted == imported.crm.unresolved()
    told: Counter[tuple[str, str, str]] = Counter()
    for step in imported.done:
        assert step.result
        told.update(step.result.references)
    assert told == counted
    for one in listed[::50]:
        if "." not in one["column"]:  # a joined column is not in the file
            assert one["value"] == cell(
                imported.folder / one["file"], int(one["line"]), one["column"]
            )


async def test_a_second_import_changes_nothing(imported: Imported) -> None:
    first, imports = imported.done, imported.imports
    events, merges = len(imports.store.all), len(imports.merges)
    second = await imports.run(imported.folder)

    assert (len(imports.store.all), len(imports.merges)) == (events, merges)
    for before, after in zip(first, second, strict=True):
        assert before.result
        assert after.result
        assert after.result.recorded == 0
        assert after.result.duplicates == before.result.recorded + before.result.duplicates


def test_the_same_seed_writes_the_same_files(generated: Path, tmp_path: Path) -> None:
    generate(tmp_path)

    names = sorted(path.name for path in generated.glob("*.csv"))
    assert names == sorted(path.name for path in tmp_path.glob("*.csv"))
    assert all((generated / n).read_bytes() == (tmp_path / n).read_bytes() for n in names)


@pytest.mark.real_input
@pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not part of the project")
def test_generated_files_have_the_columns_of_real_ones(generated: Path) -> None:
    for path in generated.glob("*.csv"):
        assert header(path) == header(SAMPLE / path.name), path.name


def generate(folder: Path) -> None:
    """Writes an export."""
    program = CHECKOUT / "examples" / "generate_crm.py"
    command = [sys.executable, str(program), "--seed", "7", "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def header(path: Path) -> list[str]:
    """Returns a file's columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file))


def cell(path: Path, line: int, column: str) -> str:
    """Returns the cell of a line, for files whose rows are a line each."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    return rows[line - 1][rows[0].index(column)].strip()
