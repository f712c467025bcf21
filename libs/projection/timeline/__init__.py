"""The timeline: each event under the identity that owns it, in every database that needs it.

`Timeline` folds it, MIGRATIONS (component `timeline`) make its tables, `touches_of` reads what
happened to a customer, and CHECKS look for what is left of one who was erased.
"""

from pathlib import Path
from typing import Final

from libs.postgres.queries import load_queries
from libs.projection.timeline.folding import MIGRATIONS, Timeline
from libs.projection.timeline.touches import touches_of

CHECKS: Final = load_queries(Path(__file__).with_name("erasing.sql"))
"""See libs.projection.erasing.checking."""

__all__ = ["CHECKS", "MIGRATIONS", "Timeline", "touches_of"]
