"""What a worker folds that rebuilds a view of this service: also a version of a model by name."""

from pathlib import Path
from typing import Final

import asyncpg

from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.generations.records import serving
from services.engagement.models import PublishedModels
from services.engagement.reading import compiled_model
from services.engagement.scores import Scores, Scoring, projection_name

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def scores_named(database_url: str, store: StoreClient, name: str) -> Scores | None:
    """Return the fold of a published version of a model; None if none is called so.

    Args:
        database_url: The service's database.
        store: Gives the data keys.
        name: The projection's name.
    """
    connection = await asyncpg.connect(database_url)
    try:
        models = await serving(connection, PublishedModels.name, PublishedModels.fold_version)
        if models is None:
            return None
        await connection.execute(f"SET search_path TO {models.search_path}")
        for tenant, model, version, position, definition in await connection.fetch(_SQL["all"]):
            if projection_name(tenant, model, version) == name:
                compiled = compiled_model(position, definition)
                return Scores(Scoring(position, tenant, version, compiled), store)
    finally:
        await connection.close()
    return None
