"""Orders of a shop, imported by the command as a person does it."""

from pathlib import Path

from tests.running import Finished, Installation

MAPPING = """
[file]
format = "csv"

[event]
source = "shop"
occurred_at = { column = "at" }

[[identities]]
kind = "email"
column = "email"

[fact.order_changed]
order_id = { column = "order" }
status = "placed"
amount = { column = "total", currency = "EUR" }
"""


async def imported(
    running: Installation, folder: Path, rows: str, mapping: str = MAPPING, *, folded: bool = True
) -> Finished:
    """Imports rows of order, email, at and total, and waits until they are folded if wanted."""
    (folder / "rows.csv").write_text(rows)
    (folder / "mapping.toml").write_text(mapping)
    record = running.tell if folded else running.run
    # The report of broken rows goes to the working directory.
    return await record("import", "rows.csv", "--mapping", "mapping.toml", cwd=folder)
