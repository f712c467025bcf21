"""Consents and preferences: what was said, under each identity it was said for.

`Consents` folds it, MIGRATIONS (component `consents`) make its tables, `words_of` and
`words_before` read it for libs.consents, and CHECKS look for what is left of one who was erased.
"""

from pathlib import Path
from typing import Final

from libs.postgres.queries import load_queries
from libs.projection.consents.folding import MIGRATIONS, Consents
from libs.projection.consents.reading import words_before, words_of

CHECKS: Final = load_queries(Path(__file__).with_name("erasing.sql"))
"""See libs.projection.erasing.checking."""

__all__ = ["CHECKS", "MIGRATIONS", "Consents", "words_before", "words_of"]
