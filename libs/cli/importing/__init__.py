"""Import of files: CSV, JSON lines and columns become events by a declarative mapping.

docs/importing.md is the reference of the mapping.
"""

from libs.cli.importing.errors import ImportFileError, MappingError
from libs.cli.importing.folder import (
    FolderStoppedError,
    Plan,
    StepResult,
    checked_steps,
    import_folder,
    load_plan,
)
from libs.cli.importing.merges import Decide, Decided
from libs.cli.importing.progress import print_summary
from libs.cli.importing.result import ImportResult, ImportStoppedError
from libs.cli.importing.run import Into, Record, import_file
from libs.cli.importing.unresolved import Unresolved

__all__ = [
    "Decide",
    "Decided",
    "FolderStoppedError",
    "ImportFileError",
    "ImportResult",
    "ImportStoppedError",
    "Into",
    "MappingError",
    "Plan",
    "Record",
    "StepResult",
    "Unresolved",
    "checked_steps",
    "import_file",
    "import_folder",
    "load_plan",
    "print_summary",
]
