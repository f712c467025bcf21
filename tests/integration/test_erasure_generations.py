"""Whoever is erased is gone from every generation that is kept, whichever answers."""

from __future__ import annotations

from services.profile.attributes import AttributeValues
from tests.customers import new_email, of, record, timeline, told
from tests.given import traits
from tests.services import Touchline
from tests.store import eventually
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.projection.v1.projection_service_pb2 import (
    CheckErasureRequest,
    CheckErasureResponse,
    SwitchProjectionRequest,
)

NAME = AttributeValues.name


async def another_generation(touchline: Touchline) -> None:
    """Makes another generation of the attributes, as a rebuild does, and lets it follow."""
    await touchline.execute(
        touchline.stores.views,
        f"""
        CREATE SCHEMA generation_1000;
        CREATE TABLE generation_1000.attribute_values
            (LIKE public.attribute_values INCLUDING ALL);
        INSERT INTO projection_generations
            (id, projection, fold_version, schema_name, state, followed_at)
        OVERRIDING SYSTEM VALUE
        VALUES (1000, '{NAME}', {AttributeValues.fold_version}, 'generation_1000', 'following',
                clock_timestamp());
        INSERT INTO projection_checkpoints (projection, generation) VALUES ('{NAME}', 1000);
        NOTIFY touchline_generations
        """,
    )


async def check(touchline: Touchline, position: int) -> CheckErasureResponse:
    """What the profile service finds of somebody who was erased."""
    stub = touchline.client.projections["profile"]
    answer: CheckErasureResponse = await stub.CheckErasure(CheckErasureRequest(position=position))
    return answer


def left_in(found: CheckErasureResponse) -> int:
    """How many values were left over."""
    return {one.what: one.left for one in found.checks}["attribute_values"]


async def test_given_two_generations_then_an_erasure_is_checked_in_both(
    touchline: Touchline,
) -> None:
    client, who = touchline.client, new_email()
    last = await record(client, told(traits("2024-01-01", {"city": "Kiel"}), who))
    await timeline(client, who, last)
    await another_generation(touchline)
    stub = client.projections["profile"]

    async def both_have_it() -> bool:
        for schema in ("public", "generation_1000"):
            statement = f"SELECT FROM {schema}.attribute_values"
            if await touchline.execute(touchline.stores.views, statement) != "SELECT 1":
                return False
        return True

    await eventually(both_have_it)
    await stub.SwitchProjection(
        SwitchProjectionRequest(projection=NAME, generation=1000, accept_differences=True)
    )
    views = touchline.stores.views
    await touchline.execute(views, "CREATE TABLE kept AS TABLE public.attribute_values")
    request = api.EraseProfileRequest(profile=of(who), reason="request 17", requested_by="agent-7")
    erased = (await client.profile.EraseProfile(request)).erased

    found = await check(touchline, erased.position)
    assert found.positions[NAME] >= erased.position
    assert left_in(found) == 0
    # What one of them failed to erase is found, whether it answers or not.
    for count, schema in enumerate(("public", "generation_1000"), 1):
        await touchline.execute(views, f"INSERT INTO {schema}.attribute_values TABLE kept")
        assert left_in(await check(touchline, erased.position)) == count
