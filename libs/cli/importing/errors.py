"""What can be wrong with a mapping, with a file, and with one row of it.

Messages name files, tables, keys, columns and rows; they never hold a cell's value.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

_MOST_NAMES = 40


class MappingError(Exception):
    """The mapping can't be used: `FILE, [table] key: what is wrong and what to do`.

    Attributes:
        table: The dotted path of the table, such as `fact.order_changed`.
        key: The key in it, or empty when the table as a whole is meant.
        problem: What is wrong and what to do.
    """

    def __init__(self, mapping: str, table: str, key: str, problem: str) -> None:
        where = " ".join(part for part in (f"[{table}]" if table else "", key) if part)
        super().__init__(f"{mapping}, {where}: {problem}" if where else f"{mapping}: {problem}")
        self.table = table
        self.key = key
        self.problem = problem


class ImportFileError(Exception):
    """The file to import can't be read, or isn't what the mapping says it is."""


class RowError(Exception):
    """One row can't become an event; the others can.

    Attributes:
        reason: Why, with the column's name and without its value.
    """

    def __init__(self, reason: str, column: str = "") -> None:
        self.reason = f'column "{column}" {reason}' if column else reason
        super().__init__(self.reason)


class EmptyError(RowError):
    """A row lacks what an event needs: a time, an identity, a required cell."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a mapping something stands, for messages."""

    mapping: str
    table: str = ""
    key: str = ""

    def at(self, key: str) -> "Place":
        """Return the place of a key of this table, or of a key of this key's inline table."""
        return replace(self, key=f"{self.key}.{key}" if self.key else key)

    def inside(self, table: str) -> "Place":
        """Return the place of a table within this one."""
        return replace(self, table=f"{self.table}.{table}" if self.table else table, key="")

    def error(self, problem: str) -> MappingError:
        """Return the error that says what is wrong here."""
        return MappingError(self.mapping, self.table, self.key, problem)

    def check_keys(self, given: Iterable[str], known: Iterable[str]) -> None:
        """Check that every key is known.

        Raises:
            MappingError: One isn't; names the known ones and the closest.
        """
        known = list(known)
        for key in given:
            if key not in known:
                raise self.at(key).error(f"unknown key.{suggestion(key, known)} {listed(known)}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "…"?` when something known is close to the word, otherwise nothing."""
    lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), lower, n=1)
    return f' Did you mean "{lower[close[0]]}"?' if close else ""


def listed(known: Iterable[str], title: str = "Known here") -> str:
    """Return `title: a, b, c.` with at most 40 names."""
    names = list(known)
    shown = ", ".join(names[:_MOST_NAMES]) or "none"
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{title}: {shown}{more}."
