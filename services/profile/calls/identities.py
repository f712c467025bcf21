"""The calls by which people decide who is who."""

from collections.abc import Sequence
from functools import partial

from libs.eventstore.records import event_id_bytes
from libs.projection.clusters import Cluster
from libs.projection.config import Reader
from libs.rpc import errors
from services.profile.calls.parts import Calls, Context
from services.profile.identities import deciding
from services.profile.identities.asking import Checking, Deciding, Named
from services.profile.identities.recording import Choose
from services.profile.identities.seeing import GRAPH
from services.profile.identities.suggestions import roots_of
from touchline.profile.v1 import profile_service_pb2 as api


class IdentityCalls(Calls):
    """Merges profiles, takes them apart, and takes in what people say to suggestions."""

    async def MergeProfiles(  # noqa: N802 - gRPC names it
        self, request: api.MergeProfilesRequest, context: Context
    ) -> api.MergeProfilesResponse:
        """Say that two profiles are one person."""
        reader = await self._reader(request, context, GRAPH)
        checking = Checking(reader.identity_keys)
        left, right = checking.named(request.left, "left"), checking.named(request.right, "right")
        choose = partial(deciding.merge, one=left.key, other=right.key)
        result = await self._decide(reader, request, checking, [left, right], choose, context)
        return api.MergeProfilesResponse(result=result)

    async def UnmergeProfiles(  # noqa: N802 - gRPC names it
        self, request: api.UnmergeProfilesRequest, context: Context
    ) -> api.UnmergeProfilesResponse:
        """Say that what is one profile is two persons."""
        reader = await self._reader(request, context, GRAPH)
        checking = Checking(reader.identity_keys)
        named = checking.named(request.profile, "profile")
        choose = _what(request, named, checking)
        result = await self._decide(reader, request, checking, [named], choose, context)
        return api.UnmergeProfilesResponse(result=result)

    async def DetachIdentity(  # noqa: N802 - gRPC names it
        self, request: api.DetachIdentityRequest, context: Context
    ) -> api.DetachIdentityResponse:
        """Say that one identity belongs to somebody else."""
        reader = await self._reader(request, context, GRAPH)
        checking = Checking(reader.identity_keys)
        named = checking.named(request.profile, "profile")
        identity = checking.identity(request.identity, "identity")
        choose = partial(deciding.detach, profile=named.key, identity=identity)
        result = await self._decide(reader, request, checking, [named], choose, context)
        return api.DetachIdentityResponse(result=result)

    async def AcceptMergeSuggestion(  # noqa: N802 - gRPC names it
        self, request: api.AcceptMergeSuggestionRequest, context: Context
    ) -> api.AcceptMergeSuggestionResponse:
        """Merge two profiles that were suggested."""
        result = await self._judge(request, context, deciding.accept)
        return api.AcceptMergeSuggestionResponse(result=result)

    async def RejectMergeSuggestion(  # noqa: N802 - gRPC names it
        self, request: api.RejectMergeSuggestionRequest, context: Context
    ) -> api.RejectMergeSuggestionResponse:
        """Keep two profiles apart that were suggested."""
        result = await self._judge(request, context, deciding.reject)
        return api.RejectMergeSuggestionResponse(result=result)

    async def _judge(
        self,
        request: api.AcceptMergeSuggestionRequest | api.RejectMergeSuggestionRequest,
        context: Context,
        judge: deciding.Judge,
    ) -> api.DecisionResult:
        reader = await self._reader(request, context, GRAPH)
        checking = Checking(reader.identity_keys)
        one, other = roots_of(request.suggestion_id, checking)
        named = [Named(root, "suggestion_id") for root in (one, other)]

        def choose(cluster: Cluster) -> deciding.Decided:
            return judge(cluster, one, other)

        return await self._decide(reader, request, checking, named, choose, context)

    async def _decide(
        self,
        reader: Reader,
        request: Deciding,
        checking: Checking,
        named: Sequence[Named],
        choose: Choose,
        context: Context,
    ) -> api.DecisionResult:
        wish = checking.wish(request)
        checking.done()
        suggested = named[0].path == "suggestion_id"
        return await self._parts.deciding.decide(
            *(reader, named, wish, choose),
            lambda position: self._folded(GRAPH, position, context),
            errors.suggestion_not_found if suggested else errors.profile_not_found,
        )


def _what(request: api.UnmergeProfilesRequest, named: Named, checking: Checking) -> Choose:
    """Return what an un-merge takes apart."""
    match request.WhichOneof("what"):
        case "merge_event_id":
            merged = checking.event_id(request.merge_event_id, "merge_event_id")
            event_id = event_id_bytes(merged) if merged else b""
            return partial(deciding.unmerge, profile=named.key, merge_event_id=event_id)
        case "absorbed_profile_id":
            absorbed = checking.profile_id(request.absorbed_profile_id, "absorbed_profile_id")
            return partial(deciding.unmerge_absorbed, profile=named.key, absorbed=absorbed)
        case "two":
            one = checking.identity(request.two.left, "two.left")
            other = checking.identity(request.two.right, "two.right")
            if one and one == other:
                checking.wrong("two.right", "is the same identity as two.left; name another")
            return partial(deciding.separate, profile=named.key, one=one, other=other)
    told = "is missing; give a merge_event_id, an absorbed_profile_id or two identities"
    checking.wrong("what", told)
    return partial(deciding.unmerge, profile=named.key, merge_event_id=b"")
