"""What several commands look up: names of customers, and events in words."""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import grpc

from libs.cli.rendering.facts import describe
from libs.cli.rendering.lines import Line, surroundings
from libs.cli.rendering.terms import called, profile_name
from touchline.client import Client
from touchline.profile.v1.profile_pb2 import Profile, ProfileReference, TimelineEntry
from touchline.profile.v1.profile_service_pb2 import (
    GetProfileRequest,
    ListTimelineEventsRequest,
)

_PAGE: Final = 500


async def profile_of(client: Client, reference: ProfileReference) -> Profile:
    """Return who a customer is."""
    return (await client.profile.GetProfile(GetProfileRequest(profile=reference))).profile


async def name_of(client: Client, reference: ProfileReference) -> str:
    """Return what a customer is called."""
    return called(await profile_of(client, reference))


async def names_of(client: Client, profile_ids: Iterable[str]) -> dict[str, str]:
    """Return what customers are called, by profile id, as far as it is known."""

    async def look(profile_id: str) -> tuple[str, str]:
        try:
            return profile_id, await name_of(client, ProfileReference(profile_id=profile_id))
        except grpc.aio.AioRpcError as error:
            # Another service knows the profile first; a name is worth no failure.
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return profile_id, ""

    return dict(await asyncio.gather(*(look(one) for one in set(profile_ids) if one)))


async def timeline_entries(client: Client, profile: Profile, limit: int) -> list[TimelineEntry]:
    """Return the newest entries of a timeline, at most `limit`."""
    reference = ProfileReference(profile_id=profile.profile_id)
    request = ListTimelineEventsRequest(profile=reference, page_size=min(limit, _PAGE))
    entries: list[TimelineEntry] = []
    while True:
        response = await client.profile.ListTimelineEvents(request)
        entries += response.entries
        if not response.next_page_token or len(entries) >= limit:
            return entries[:limit]
        request.page_token = response.next_page_token


async def lines_of_events(client: Client, reference: ProfileReference) -> dict[str, Line]:
    """Return a customer's newest 500 events in words, by event id."""
    profile = await profile_of(client, reference)
    entries = await timeline_entries(client, profile, _PAGE)
    name = profile_name(profile).split()
    around = surroundings(
        entries, now=datetime.now().astimezone(), name=name[0] if name else "customer"
    )
    return {entry.event.event_id: describe(entry, around) for entry in entries}
