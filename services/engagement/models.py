"""Scoring models as aggregates, and the projection of what was published."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from google.protobuf import json_format

from libs.eventstore.aggregates import give_topics
from libs.eventstore.client import StoreClient
from libs.identity.keys import IdentityKeys
from libs.postgres.queries import load_queries
from libs.projection.opening import open_events
from libs.projection.projection import Connection, Recorded, Table
from touchline.engagement.v1.engagement_pb2 import ModelDefinition
from touchline.events.v1.event_pb2 import EVENT_TYPE_AGGREGATE_CHANGED

APPLICATION: Final = "models"
"""The application's name; it is part of the names of the aggregates' streams."""

_NAMES: Final = UUID("7a3c0e52-5f0d-4c8e-9d43-1b8f5d1c2e60")
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class StaleVersion(Exception):
    """Another version was published than the one that the caller knows.

    Attributes:
        version: The latest one.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"the latest version is {version}")
        self.version = version


class Publication(NamedTuple):
    """A version that was published: its number, and its position, or 0 where only models know."""

    version: int
    position: int


class ScoringModel(Aggregate):
    """A scoring model. Each of its changes publishes a version, which is the aggregate's."""

    @event("FirstPublished")
    def __init__(self, name: str, definition: str, published_by: str) -> None:
        self.name = name
        self.definition = definition
        self.published_by = published_by

    @event("Published")
    def publish(self, definition: str, published_by: str) -> None:
        """Publish another version."""
        self.definition = definition
        self.published_by = published_by

    @staticmethod
    def create_id(name: str) -> UUID:
        """Return the id of the model of a name."""
        return uuid5(_NAMES, name)


give_topics(ScoringModel, "engagement.ScoringModel")


class Models(Application[UUID]):
    """A tenant's scoring models. It is synchronous: call it by asyncio.to_thread."""

    name = APPLICATION

    def publish(
        self, definition: ModelDefinition, expected_version: int, published_by: str
    ) -> Publication:
        """Publish a version of a model, once however often the caller repeats it.

        Args:
            definition: A definition without violations.
            expected_version: The latest version that the caller knows; 0 when there is none.
            published_by: A reference to who publishes.

        Raises:
            StaleVersion: another one is the latest.
            OperationalError: the store can't be reached; whether it was published is not known.
        """
        text = to_text(definition)
        model = self._latest(definition.name)
        if model is None and expected_version == 0:
            model = ScoringModel(definition.name, text, published_by)
        elif model is not None and model.version == expected_version:
            model.publish(text, published_by)
        else:
            return _published_before(model, expected_version, text, published_by)
        try:
            recordings = self.save(model)
        except IntegrityError:
            latest = self._latest(definition.name)
            return _published_before(latest, expected_version, text, published_by)
        return Publication(model.version, recordings[-1].notification.id)

    def _latest(self, name: str) -> ScoringModel | None:
        try:
            found: ScoringModel = self.repository.get(ScoringModel.create_id(name))
        except AggregateNotFoundError:
            return None
        return found


def _published_before(
    model: ScoringModel | None, expected_version: int, text: str, published_by: str
) -> Publication:
    """Return the latest version if it is the very one that the caller wanted to publish."""
    version = 0 if model is None else model.version
    said = None if model is None else (model.definition, model.published_by)
    if version == expected_version + 1 and said == (text, published_by):
        return Publication(version, 0)
    raise StaleVersion(version)


def to_text(definition: ModelDefinition) -> str:
    """Return a definition as it is kept: JSON, so that the log can be read without this release."""
    return json.dumps(json_format.MessageToDict(definition), sort_keys=True)


def from_text(text: str) -> ModelDefinition:
    """Return the definition of a text; what a later release added to it is left out."""
    return json_format.Parse(text, ModelDefinition(), ignore_unknown_fields=True)


@dataclass(frozen=True, slots=True)
class _Published:
    definition: str
    published_by: str


class PublishedModels:
    """Folds what aggregates published into a table; see libs.projection.projection.Projection.

    Args:
        store: Gives the data keys that open the aggregates' changes.
        identity_keys: By tenant number: what names the tenant's streams.
    """

    name = "models"
    fold_version = 1
    divisible = False
    tables = (Table("models"),)

    def __init__(self, store: StoreClient, identity_keys: Mapping[int, IdentityKeys]) -> None:
        self._store = store
        self._identity_keys = identity_keys
        self._namespaces = {
            tenant: keys.namespace_key(APPLICATION) for tenant, keys in identity_keys.items()
        }
        self._published: dict[int, _Published] = {}

    def copy(self) -> "PublishedModels":
        """The same fold, remembering nothing."""
        return PublishedModels(self._store, self._identity_keys)

    async def prepare(self, events: Sequence[Recorded]) -> None:
        """Open the aggregates' changes."""
        own = [one for one in events if self._is_own(one)]
        opened = await open_events(self._store, own)
        self._published = {
            one.position: _Published(**_fields(change.aggregate_changed.state))
            for one, change in zip(own, opened, strict=True)
            if change is not None
        }

    async def apply(self, connection: Connection, events: Sequence[Recorded]) -> None:
        """Add a row per published version."""
        rows = []
        for recorded in events:
            published = self._published.get(recorded.position)
            if published is None:
                continue
            record = recorded.record
            name = from_text(published.definition).name
            rows.append(
                (
                    *(record.tenant, name, record.stream_version, recorded.position),
                    *(published.definition, record.occurred_at_us, published.published_by),
                )
            )
        if rows:
            await connection.execute(_SQL["add_models"], *zip(*rows, strict=True))

    def aborted(self) -> None:
        """Forget what was opened."""
        self._published = {}

    def _is_own(self, recorded: Recorded) -> bool:
        record = recorded.record
        return record.type == EVENT_TYPE_AGGREGATE_CHANGED and record.identities[
            0
        ].namespace_key == self._namespaces.get(record.tenant)


def _fields(state: bytes) -> dict[str, str]:
    # Both of the aggregate's events have these two, as the library's transcoder writes them.
    told = json.loads(state)
    return {name: told[name] for name in ("definition", "published_by")}
