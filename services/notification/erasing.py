"""What this service looks at for what is left of the erased; docs/erasure.md has the inventory."""

from pathlib import Path
from typing import Final

from libs.postgres.queries import load_queries
from libs.projection import consents, timeline

CHECKS: Final = {
    **timeline.CHECKS,
    **consents.CHECKS,
    **load_queries(Path(__file__).with_name("erasing.sql")),
}
"""Queries by table; see libs.projection.erasing.checking."""
