"""The calls that say why identities are one person, and which profiles may be."""

from google.protobuf.message import Message

from libs.projection.clusters import read_cluster
from libs.projection.config import Reader
from libs.projection.profiles import views_errors
from libs.projection.suggestions import BEGINNING
from libs.rpc import errors, page_tokens
from services.profile.calls.parts import Calls, Context, micros
from services.profile.identities.asking import Checking
from services.profile.identities.explaining import Explanation, Linked, Telling
from services.profile.identities.suggestions import page_of
from touchline.profile.v1 import profile_service_pb2 as api


class ExplainingCalls(Calls):
    """Says why identities are one person, and which profiles may be."""

    async def ListMergeSuggestions(  # noqa: N802 - gRPC names it
        self, request: api.ListMergeSuggestionsRequest, context: Context
    ) -> api.ListMergeSuggestionsResponse:
        """List profiles that may be one person, the strongest evidence first."""
        reader = await self._reader(request, context)
        size, parts = page_tokens.page_size(request.page_size), self._parts
        kind, filters, after = "suggestions/1", _filters(request, reader), BEGINNING
        if request.page_token:
            after = page_tokens.decode(request.page_token, kind, filters, int, int, bytes, bytes)
        root = None
        if request.HasField("profile"):
            root = (await self._profiles.find(reader, request.profile, "profile")).root
        page, end = await page_of(parts.pool, parts.store, reader, root, after, size)
        response = api.ListMergeSuggestionsResponse(suggestions=page)
        if end is not None:
            response.next_page_token = page_tokens.encode(kind, filters, *end)
        return response

    async def ExplainIdentities(  # noqa: N802 - gRPC names it
        self, request: api.ExplainIdentitiesRequest, context: Context
    ) -> api.ExplainIdentitiesResponse:
        """Say why identities are one person, or are not."""
        reader = await self._reader(request, context)
        size, parts = page_tokens.page_size(request.page_size), self._parts
        kind, filters, start = "links/1", _filters(request, reader), 0
        if request.page_token:
            (start,) = page_tokens.decode(request.page_token, kind, filters, int)
        as_of_us = micros(request, "as_of")
        checking = Checking(reader.identity_keys)
        key = checking.reference(request.profile, "profile")
        between = _between(request, checking)
        checking.done()
        profile = await self._profiles.find(reader, request.profile, "profile")
        async with views_errors():
            keys = [key, *between]
            cluster = await read_cluster(parts.pool, reader.tenant, keys, as_of_us=as_of_us)
        why = Explanation(cluster, key)
        links, end = _wanted(why, between), start + size
        telling = Telling(parts.pool, parts.store, reader)
        response = api.ExplainIdentitiesResponse(
            profile_id=profile.profile_id,
            links=await telling.links(links[start:end], cluster.decisions, as_of_us),
        )
        if not request.page_token:
            others = () if _are_one(why, between) else why.profile_of(between[1])
            response.verdicts.extend(await telling.verdicts(why.verdicts(others)))
        if len(links) > end:
            response.next_page_token = page_tokens.encode(kind, filters, end)
        return response


def _between(request: api.ExplainIdentitiesRequest, checking: Checking) -> list[bytes]:
    """Return the keys of the two identities that are asked about; none for all of the profile."""
    if not request.HasField("between"):
        return []
    one = checking.identity(request.between.left, "between.left")
    other = checking.identity(request.between.right, "between.right")
    if one and one == other:
        told = "is the same identity as between.left; name another"
        checking.wrong("between.right", told)
    return [one, other]


def _wanted(why: Explanation, between: list[bytes]) -> list[Linked]:
    if not between:
        return why.links()
    one, other = between
    if one not in why.keys:
        told = "is no identity of the profile; GetProfile lists those that are"
        raise errors.invalid_request([("between.left", told)])
    if not why.profile_of(other):
        raise errors.profile_not_found()
    return why.between(one, other)


def _are_one(why: Explanation, between: list[bytes]) -> bool:
    return not between or between[1] in why.keys


def _filters(request: Message, reader: Reader) -> bytes:
    """Return what a page's successor must repeat."""
    same = type(request)()
    same.CopyFrom(request)
    for field in ("page_size", "page_token", "after_position"):
        same.ClearField(field)
    return reader.name.encode() + b"\0" + same.SerializeToString(deterministic=True)
