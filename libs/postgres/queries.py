"""SQL lives in .sql files, in blocks that start with a line `-- name: the_name`."""

import re
from pathlib import Path
from types import MappingProxyType
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load_queries(path: Path) -> MappingProxyType[str, str]:
    """Returns the statements of a file by their names.

    Raises:
        ValueError: two blocks of the file have the same name.
    """
    _, *parts = _NAME.split(path.read_text())
    names, statements = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: two queries have the same name")
    return MappingProxyType(
        {name: text.strip() for name, text in zip(names, statements, strict=True)}
    )
