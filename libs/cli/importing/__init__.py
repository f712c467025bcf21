"""Import of files: CSV, JSON lines and columns become events by a declarative mapping.

docs/importing.md is the reference of the mapping.
"""

from libs.cli.importing.errors import ImportFileError, MappingError
from libs.cli.importing.progress import print_summary
from libs.cli.importing.result import ImportResult, ImportStoppedError
from libs.cli.importing.run import Record, import_file

__all__ = [
    "ImportFileError",
    "ImportResult",
    "ImportStoppedError",
    "MappingError",
    "Record",
    "import_file",
    "print_summary",
]
