"""Finds customers by what was ever known of them, and what was known of a customer.

`AttributeValues` folds keyed hashes of values, MIGRATIONS (component `attributes`) make its table,
`find_profiles`, `events_of` and `last_events` read it, and CHECKS look for what is left of one who
was erased.
"""

from pathlib import Path
from typing import Final

from libs.postgres.queries import load_queries
from services.profile.attributes.finding import Place, events_of, find_profiles, last_events
from services.profile.attributes.folding import MIGRATIONS, AttributeValues

CHECKS: Final = load_queries(Path(__file__).with_name("erasing.sql"))
"""See libs.projection.erasing.checking."""

__all__ = [
    "CHECKS",
    "MIGRATIONS",
    "AttributeValues",
    "Place",
    "events_of",
    "find_profiles",
    "last_events",
]
