"""What a generation is: one folding of a projection into tables of its own."""

from datetime import datetime
from typing import Final, Literal, NamedTuple

PUBLIC: Final = "public"
"""The schema of the first generation of each projection, and of the tables that later ones copy."""

CHANGED: Final = "touchline_generations"
"""The channel on which PostgreSQL tells that generations or pauses changed, and nothing more."""

State = Literal["filling", "following", "serving", "retired", "failed"]
"""Being filled; keeping up beside what answers; answering; kept to roll back to; given up."""


class Generation(NamedTuple):
    """A row of projection_generations.

    Attributes:
        id: Names it within its database.
        projection: What is folded.
        fold_version: By which version of the fold.
        schema: Where its tables are.
        state: What it is for now.
        workers: How many processes fill it.
        fill_to: The head when it was begun.
        begun_at: When it was begun.
        followed_at: When it was filled, or None.
        served_at: When it began to answer, or None.
        retired_at: When it ceased to, or None.
        compared_position: Where it was last compared with the one that answers; 0: never.
        differing_rows: How many rows differed there.
        waits_for: What filling it waits for, or empty.
        failure: Why filling it failed, or empty.
    """

    id: int
    projection: str
    fold_version: int
    schema: str
    state: State
    workers: int
    fill_to: int
    begun_at: datetime
    followed_at: datetime | None
    served_at: datetime | None
    retired_at: datetime | None
    compared_position: int
    differing_rows: int
    waits_for: str
    failure: str

    @property
    def search_path(self) -> str:
        """Where a connection that folds it, or reads it, looks for tables."""
        return PUBLIC if self.schema == PUBLIC else f"{self.schema}, {PUBLIC}"


def schema_of(generation: int) -> str:
    """Return the schema of a generation that is not in public."""
    return f"generation_{generation}"
