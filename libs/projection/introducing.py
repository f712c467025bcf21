"""Which generation is folded when nobody says: the one that answers in this fold version."""

from typing import Final

import asyncpg

from libs.projection.checkpoints import Halted
from libs.projection.generations.generation import Generation
from libs.projection.generations.records import generations, introduce, serving
from libs.projection.projection import Projection

_OTHER_FOLD: Final = (
    "its tables were folded by version {} of the fold, and this release has version {}: fold its "
    "service anew, as the runbook says (A projection is halted)"
)


async def own_generation(pool: asyncpg.Pool, projection: Projection) -> Generation:
    """Return the generation that this release folds; begin the first one of a projection.

    Args:
        pool: Connections to the projection's database.
        projection: Its fold, in the version of this release.

    Raises:
        Halted: there are generations, and none of this version.
    """
    name, version = projection.name, projection.fold_version
    await introduce(pool, name, version)
    found = await serving(pool, name, version)
    if found is None and projection.copy() is None:
        # It has one for ever. Whoever claims it says there why it halts.
        found = next((one for one in await generations(pool) if one.projection == name), None)
    if found is None:
        raise Halted(
            f"it has no generation of version {version} of the fold: run the service, which builds "
            "one beside the older, or `touchline rebuild`"
        )
    return found


def check_version(generation: Generation, projection: Projection) -> None:
    """Make sure that a generation is of this release's version of the fold.

    Raises:
        Halted: it is of another.
    """
    if generation.fold_version != projection.fold_version:
        raise Halted(_OTHER_FOLD.format(generation.fold_version, projection.fold_version))
