"""The engagement service as its callers see it."""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import asyncpg
import grpc
from eventsourcing.persistence import OperationalError

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.eventstore.records import event_id_text
from libs.identity.keys import IdentityKeys
from libs.projection.profiles import Profile, referred_profile
from libs.projection.serving import Serving
from libs.projection.waiting import Checkpoints, waiting_errors
from libs.rpc import errors, page_tokens
from libs.rpc.deadlines import remaining
from libs.rpc.tenants import Tenant, Tenants
from services.engagement.domain import default_model
from services.engagement.domain.scoring import THOUSAND, Scored, day_of, points_of
from services.engagement.domain.violations import violations
from services.engagement.models import Models, Publication, PublishedModels, StaleVersion
from services.engagement.reading import (
    Explained,
    Moment,
    Ranked,
    Scorings,
    Version,
    definition_of,
)
from services.engagement.scores import Scoring, projection_name
from touchline.engagement.v1 import engagement_service_pb2 as api
from touchline.engagement.v1.engagement_pb2 import (
    MODEL_STATE_BUILDING,
    MODEL_STATE_RETIRED,
    MODEL_STATE_SERVING,
    Contribution,
    Model,
    ModelState,
    RulePoints,
    Score,
)
from touchline.engagement.v1.engagement_service_pb2_grpc import EngagementServiceServicer
from touchline.times import micros_of, timestamp_of

_GRAPH: Final = "identity_graph"
_BUILDING_SECONDS: Final = 1.0
_LAST_SECOND: Final = 253_402_300_799
_MAX_REFERENCE: Final = 128

Context = grpc.aio.ServicerContext[Any, Any]


class _Read(Protocol):
    @property
    def after_position(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; `__main__` puts it together.

    Attributes:
        pool: Connections to the service's database.
        store: Says where the line ends.
        checkpoints: Tells how far the projections are.
        serving: Says which generations answer.
        tenants: Whose customers are scored.
        identity_keys: By tenant number: what names identities.
        models: By tenant number: the scoring models' aggregates.
    """

    pool: asyncpg.Pool
    store: StoreClient
    checkpoints: Checkpoints
    serving: Serving
    tenants: Tenants
    identity_keys: Mapping[int, IdentityKeys]
    models: Mapping[int, Models]


class EngagementService(EngagementServiceServicer):
    """Implements touchline.engagement.v1.EngagementService; the proto is the contract."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._scorings = Scorings(parts.pool, parts.serving)

    async def GetScore(  # noqa: N802 - gRPC names it
        self, request: api.GetScoreRequest, context: Context
    ) -> api.GetScoreResponse:
        """Score one customer."""
        tenant = self._tenant(context)
        as_of_us = _as_of(request)
        scoring = await self._scoring(tenant, request.model, request, context)
        profile = await self._profile(tenant, request)
        degraded = self._degraded(tenant, scoring, profile)
        if as_of_us is None:
            clock_us = _now_us()
            sums = await self._scorings.sums_now(scoring, profile.keys)
        else:
            clock_us = as_of_us
            sums = await self._scorings.sums_then(scoring, profile.keys, Moment(as_of_us, as_of_us))
        scored = scoring.model.score(sums, day_of(clock_us))
        return api.GetScoreResponse(
            score=_score(scoring, profile.root, scored.score, clock_us, degraded)
        )

    async def ListScores(  # noqa: N802 - gRPC names it
        self, request: api.ListScoresRequest, context: Context
    ) -> api.ListScoresResponse:
        """List customers by score."""
        tenant = self._tenant(context)
        size = page_tokens.page_size(request.page_size)
        if request.order not in api.ScoreOrder.values():
            raise errors.invalid_request([("order", "must be one of ScoreOrder")])
        as_of_us = _as_of(request)
        scoring = await self._scoring(tenant, request.model, request, context)
        kind, filters = "scores/1", _filters(request, scoring)
        clock_us, after = _now_us() if as_of_us is None else as_of_us, None
        if request.page_token:
            clock_us, rank, root = page_tokens.decode(
                request.page_token, kind, filters, int, int, bytes
            )
            after = Ranked(root, rank)
        lowest = request.order == api.SCORE_ORDER_LOWEST
        parked = self._parts.checkpoints.parked_by([_GRAPH, scoring.projection], tenant.number)
        ranked = await self._scorings.ranked(
            *(scoring, day_of(clock_us), as_of_us), lowest=lowest, after=after, limit=size + 1
        )
        sign, page = -1 if lowest else 1, ranked[:size]
        degraded = await self._scorings.degraded(tenant.number, parked, [one.root for one in page])
        response = api.ListScoresResponse(
            scores=[
                _score(
                    *(scoring, one.root, points_of(sign * one.rank), clock_us),
                    degraded.get(one.root, ()),
                )
                for one in page
            ]
        )
        if len(ranked) > size:
            last = ranked[size - 1]
            response.next_page_token = page_tokens.encode(
                kind, filters, clock_us, last.rank, last.root
            )
        return response

    async def ExplainScore(  # noqa: N802 - gRPC names it
        self, request: api.ExplainScoreRequest, context: Context
    ) -> api.ExplainScoreResponse:
        """Explain a score down to the event."""
        tenant = self._tenant(context)
        size = page_tokens.page_size(request.page_size)
        as_of_us = _as_of(request)
        scoring = await self._scoring(tenant, request.model, request, context)
        profile = await self._profile(tenant, request)
        degraded = self._degraded(tenant, scoring, profile)
        kind, filters, start = "explained/1", _filters(request, scoring), 0
        if request.page_token:
            clock_us, position, start = page_tokens.decode(
                request.page_token, kind, filters, int, int, int
            )
        else:
            clock_us = _now_us() if as_of_us is None else as_of_us
            position = self._parts.checkpoints.position([scoring.projection])
        moment = (
            Moment(position=position) if as_of_us is None else Moment(as_of_us, as_of_us, position)
        )
        sums = await self._scorings.sums_then(scoring, profile.keys, moment)
        scored = scoring.model.score(sums, day_of(clock_us))
        page = await self._scorings.explained(
            *(scoring, profile.keys, moment, scored), (max(start, 0), size + 1)
        )
        response = api.ExplainScoreResponse(
            score=_score(scoring, profile.root, scored.score, clock_us, degraded),
            rules=_rules(scoring, scored),
            contributions=[_contribution(scoring, scored, one) for one in page[:size]],
        )
        if len(page) > size:
            response.next_page_token = page_tokens.encode(
                kind, filters, clock_us, position, start + size
            )
        return response

    async def ListModels(  # noqa: N802 - gRPC names it
        self, request: api.ListModelsRequest, context: Context
    ) -> api.ListModelsResponse:
        """List the versions of the scoring models."""
        tenant = self._tenant(context)
        await self._wait([PublishedModels.name], request, context)
        versions = await self._scorings.versions(tenant.number, request.name)
        if request.name and not versions:
            raise errors.model_not_found(_shown(request.name))
        newest: dict[str, int] = {}
        for version in versions:
            newest.setdefault(version.name, version.version)
        return api.ListModelsResponse(
            models=[self._model(tenant, one, newest[one.name]) for one in versions]
        )

    async def PublishModel(  # noqa: N802 - gRPC names it
        self, request: api.PublishModelRequest, context: Context
    ) -> api.PublishModelResponse:
        """Publish a new version of a scoring model."""
        tenant = self._tenant(context)
        wrong = violations(request.definition)
        if not 1 <= len(request.published_by) <= _MAX_REFERENCE:
            told = f"must be 1 to {_MAX_REFERENCE} characters; give a reference, not a name"
            wrong.append(("published_by", told))
        if request.expected_version < 0:
            wrong.append(("expected_version", "must be 0 or a version"))
        if wrong:
            raise errors.invalid_request(wrong)
        name, expected = request.definition.name, request.expected_version
        try:
            published = await asyncio.to_thread(
                self._parts.models[tenant.number].publish,
                *(request.definition, expected, request.published_by),
            )
        except StaleVersion as error:
            raise errors.stale_version(name, error.version, expected) from error
        except OperationalError as error:
            raise errors.store_unavailable() from error
        position = await self._position(tenant, name, published, context)
        return api.PublishModelResponse(version=published.version, position=position)

    def _tenant(self, context: Context) -> Tenant:
        return self._parts.tenants.tenant_of(context)

    async def _scoring(
        self, tenant: Tenant, name: str, request: _Read, context: Context
    ) -> Scoring:
        """Return the version of a model that answers, once everything asked for is folded.

        Raises:
            CallError: MODEL_NOT_FOUND, MODEL_BUILDING, PROJECTION_BEHIND, PROJECTION_HALTED,
                INVALID_REQUEST or VIEWS_UNAVAILABLE.
        """
        name = name or default_model.NAME
        await self._wait([PublishedModels.name, _GRAPH], request, context)
        scoring = await self._scorings.serving(tenant.number, name)
        if scoring is None:
            # The default is published when the service starts.
            known = name == default_model.NAME or await self._scorings.versions(tenant.number, name)
            if not known:
                raise errors.model_not_found(_shown(name))
            raise errors.model_building(name, _BUILDING_SECONDS)
        await self._wait([scoring.projection], request, context)
        return scoring

    async def _wait(self, projections: Collection[str], request: _Read, context: Context) -> None:
        after = request.after_position
        if after < 0:
            raise errors.invalid_request([("after_position", "must be 0 or a position")])
        with waiting_errors(after):
            await self._parts.checkpoints.wait(projections, after, remaining(context))

    async def _profile(
        self, tenant: Tenant, request: api.GetScoreRequest | api.ExplainScoreRequest
    ) -> Profile:
        keys = self._parts.identity_keys[tenant.number]
        return await referred_profile(
            self._parts.pool, tenant.number, keys, request.profile, "profile"
        )

    def _degraded(self, tenant: Tenant, scoring: Scoring, profile: Profile) -> list[str]:
        """Return what a score is read from and lacks events of the profile, of whatever time."""
        return self._parts.checkpoints.degraded(
            [_GRAPH, scoring.projection], tenant.number, profile.keys
        )

    async def _position(
        self, tenant: Tenant, name: str, published: Publication, context: Context
    ) -> int:
        """Return where a version stands on the line; asked again, models know, or soon will."""
        if published.position:
            return published.position
        try:
            head = await self._parts.store.head()
        except StoreError as error:
            raise errors.store_unavailable() from error
        seen = api.ListModelsRequest(after_position=head.position)
        await self._wait([PublishedModels.name], seen, context)
        return await self._scorings.position_of(tenant.number, name, published.version)

    def _model(self, tenant: Tenant, version: Version, newest: int) -> Model:
        return Model(
            definition=definition_of(version),
            version=version.version,
            published_at=timestamp_of(version.published_at_us),
            published_by=version.published_by,
            state=_state(version, newest),
            position=self._parts.checkpoints.position(
                [projection_name(tenant.number, version.name, version.version)]
            ),
        )


def _state(version: Version, newest: int) -> ModelState.ValueType:
    if version.position == version.serving:
        return MODEL_STATE_SERVING
    return MODEL_STATE_BUILDING if version.version == newest else MODEL_STATE_RETIRED


def _score(
    scoring: Scoring, root: bytes, points: float, clock_us: int, degraded: Collection[str]
) -> Score:
    return Score(
        profile_id=root.hex(),
        model=scoring.model.name,
        model_version=scoring.version,
        score=points,
        level=scoring.model.level_of(points),
        as_of=timestamp_of(clock_us),
        degraded_projections=degraded,
    )


def _rules(scoring: Scoring, scored: Scored) -> list[RulePoints]:
    return [
        RulePoints(
            rule=rule.name,
            points=points.points,
            uncapped_points=points.uncapped_points,
            events=points.events,
        )
        for rule, points in zip(scoring.model.rules, scored.rules, strict=True)
    ]


def _contribution(scoring: Scoring, scored: Scored, one: Explained) -> Contribution:
    rule, points = scoring.model.rules[one.rule], scored.rules[one.rule]
    return Contribution(
        event_id=event_id_text(one.event_id),
        position=one.position,
        occurred_at=timestamp_of(one.occurred_at_us),
        type=one.type,  # type: ignore[arg-type]  # as the envelope has it
        rule=rule.name,
        weight=rule.terms.weight / THOUSAND,
        age_days=points.days[one.day].age_days,
        decayed=points.decayed(one.day),
        points=points.share(one.day),
    )


def _now_us() -> int:
    return time.time_ns() // 1000


def _as_of(
    request: api.GetScoreRequest | api.ListScoresRequest | api.ExplainScoreRequest,
) -> int | None:
    if not request.HasField("as_of"):
        return None
    if not 0 <= request.as_of.seconds <= _LAST_SECOND:
        raise errors.invalid_request([("as_of", "is before 1970 or after 9999")])
    return micros_of(request.as_of)


def _filters(request: api.ListScoresRequest | api.ExplainScoreRequest, scoring: Scoring) -> bytes:
    """Return what a page's successor must repeat; another version of the model has other pages."""
    same = type(request)()
    same.MergeFrom(request)  # type: ignore[arg-type]  # of the same type
    for name in ("page_size", "page_token", "after_position"):
        same.ClearField(name)
    named = b"%d:%d:" % (scoring.tenant, scoring.scoring)
    return named + same.SerializeToString(deterministic=True)


def _shown(name: str) -> str:
    return name[:64]
