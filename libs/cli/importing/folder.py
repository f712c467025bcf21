"""The import of a folder: a plan says which file is imported by which mapping, in which order."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from libs.cli.importing.errors import ImportFileError, Place
from libs.cli.importing.result import ImportResult, ImportStoppedError
from libs.cli.importing.run import Into, Step, checked, import_step
from libs.cli.importing.unresolved import Unresolved

PLAN: Final = "import.toml"
"""The plan of a folder of mappings."""

_STEP_KEYS: Final = ("file", "mapping")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a folder's files become.

    Attributes:
        types: Files that define types of custom events, which the mappings need.
        steps: (file's name, its mapping), in order.
    """

    types: tuple[Path, ...]
    steps: tuple[tuple[str, Path], ...]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What came of one step.

    Attributes:
        file: The file's name.
        mapping: The mapping's name, without its ending.
        result: The counts; None: the folder has no such file.
    """

    file: str
    mapping: str
    result: ImportResult | None


class FolderStoppedError(Exception):
    """Recording failed in the middle; its cause says why.

    Attributes:
        done: What was done until then.
    """

    def __init__(self, done: list[StepResult]) -> None:
        super().__init__("Recording stopped. Repeat the import: nothing is recorded twice.")
        self.done = done


def load_plan(path: Path) -> Plan:
    """Read a plan; of a folder of mappings its `import.toml`.

    Raises:
        MappingError: It can't be read or has a key that means nothing.
    """
    path = path / PLAN if path.is_dir() else path
    place = Place(str(path))
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise place.error(f"can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise place.error(f"is no TOML: {error}.") from None
    place.check_keys(tables, ("types", "steps"))
    types = tables.get("types", [])
    if not isinstance(types, list) or not all(isinstance(one, str) for one in types):
        raise place.at("types").error("must be a list of files")
    steps = tables.get("steps")
    if not isinstance(steps, list) or not steps:
        raise place.error("needs tables [[steps]] with file and mapping")
    return Plan(
        tuple(path.parent / one for one in types),
        tuple(_step(step, place.inside(f"steps.{i}"), path.parent) for i, step in enumerate(steps)),
    )


def _step(table: Any, place: Place, folder: Path) -> tuple[str, Path]:
    if not isinstance(table, dict):
        raise place.error('must be a table with file = "…" and mapping = "…"')
    place.check_keys(table, _STEP_KEYS)
    for key in _STEP_KEYS:
        if not isinstance(table.get(key), str):
            raise place.at(key).error("must be text in quotes")
    return table["file"], folder / table["mapping"]


def checked_steps(folder: Path, plan: Plan, into: Into) -> list[Step | None]:
    """Check every mapping against its file; None where the folder lacks the file.

    Raises:
        MappingError: A mapping can't be used.
        ImportFileError: A file can't be read, or the folder has none of them.
    """
    steps = [
        checked(folder / name, mapping, into) if (folder / name).exists() else None
        for name, mapping in plan.steps
    ]
    if not any(steps):
        names = ", ".join(dict.fromkeys(name for name, _ in plan.steps))
        raise ImportFileError(f"{folder} has none of the files of the plan: {names}.")
    return steps


async def import_folder(
    plan: Plan,
    steps: list[Step | None],
    into: Into,
    unresolved: Unresolved,
) -> list[StepResult]:
    """Import the files of a folder, one after the other.

    Args:
        plan: What the folder's files become.
        steps: The steps, checked.
        into: Where to.
        unresolved: Where references that lead nowhere are listed.

    Raises:
        ImportFileError: A file can't be read.
        FolderStoppedError: Recording failed; its cause says why.
    """
    done: list[StepResult] = []
    try:
        for (name, mapping), step in zip(plan.steps, steps, strict=True):
            called = f"{name}.{mapping.stem}"
            result = None
            if step:
                result = await import_step(step, into, unresolved, called, one_of_many=True)
            done.append(StepResult(name, mapping.stem, result))
    except ImportStoppedError as stopped:
        done.append(StepResult(name, mapping.stem, stopped.result))
        raise FolderStoppedError(done) from stopped.__cause__
    finally:
        unresolved.close()
    return done
