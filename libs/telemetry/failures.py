"""What a log may say of an exception: its kind and where it happened, never its text.

Messages of drivers and libraries quote values, such as the row a constraint refused, and nothing
personal may reach a log (invariant 11).
"""

import os
import traceback
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_MAXIMUM_FRAMES: Final = 30


def described(error: BaseException) -> str:
    """Return an exception's chain of kinds, causes last, with codes that hold no value.

    An operating system error adds its standard text, a PostgreSQL error its SQLSTATE.
    """
    kinds = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        kinds.append(_kind(current))
        current = current.__cause__ or (
            None if current.__suppress_context__ else current.__context__
        )
    return " from ".join(kinds)


def frames(error: BaseException) -> list[str]:
    """Return where an exception passed, `file:line function`, the place it was raised at last."""
    stack = traceback.extract_tb(error.__traceback__)
    return [f"{_place(frame.filename)}:{frame.lineno} {frame.name}" for frame in stack][
        -_MAXIMUM_FRAMES:
    ]


def _kind(error: BaseException) -> str:
    name = type(error).__qualname__
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return f"{name} ({os.strerror(error.errno)})"
    sqlstate = getattr(error, "sqlstate", None)
    return f"{name} (SQLSTATE {sqlstate})" if isinstance(sqlstate, str) else name


def _place(filename: str) -> str:
    path = Path(filename)
    if "site-packages" in path.parts:
        return "/".join(path.parts[path.parts.index("site-packages") + 1 :])
    return str(path.relative_to(_CHECKOUT)) if path.is_relative_to(_CHECKOUT) else filename
