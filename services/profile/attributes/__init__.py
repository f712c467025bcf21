"""Finds customers by what was ever known of them.

`AttributeValues` folds keyed hashes of values, MIGRATIONS (component `attributes`) make its table,
`find_rows` reads it, and CHECKS look for what is left of one who was erased.
"""

from pathlib import Path
from typing import Final

from libs.postgres.queries import load_queries
from services.profile.attributes.finding import FoundRow, find_rows
from services.profile.attributes.folding import MIGRATIONS, AttributeValues
from services.profile.attributes.hashing import value_key

CHECKS: Final = load_queries(Path(__file__).with_name("erasing.sql"))
"""See libs.projection.erasing.checking."""

__all__ = ["CHECKS", "MIGRATIONS", "AttributeValues", "FoundRow", "find_rows", "value_key"]
