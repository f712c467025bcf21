"""The aggregates `rules`: what is published of each rule, version after version, on the line."""

import json
from functools import lru_cache
from typing import Final, NamedTuple, cast
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import (
    DatetimeAsISO,
    IntegrityError,
    JSONTranscoder,
    Mapper,
    UUIDAsHex,
)
from google.protobuf.json_format import MessageToDict, ParseDict

from libs.eventstore.aggregates import give_topics
from libs.eventstore.aggregates.stored import CHANGES, stored_of
from touchline.events.v1.event_pb2 import Event
from touchline.notification.v1.notification_pb2 import RuleDefinition

APPLICATION: Final = "rules"
"""The namespace of the rules' streams."""


class Publication(NamedTuple):
    """A version of a rule: what it says, its number, and who published it."""

    definition: RuleDefinition
    version: int
    published_by: str


class StaleVersion(Exception):
    """Another version was published meanwhile.

    Attributes:
        version: The latest one; 0 when there is none.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"the latest version is {version}")
        self.version = version


class Rule(Aggregate):
    """A rule: its latest version, and who published it. Its own version is the rule's.

    Args:
        definition: What it says, as JSON.
        published_by: Who says so, as a reference.
    """

    @event("FirstPublished")
    def __init__(self, definition: str, published_by: str) -> None:
        self.definition = definition
        self.published_by = published_by

    @event("Published")
    def publish(self, definition: str, published_by: str) -> None:
        """Replace what it says by a new version."""
        self.definition = definition
        self.published_by = published_by

    def says(self, definition: str, published_by: str) -> bool:
        """Say whether its latest version is the same."""
        return (self.definition, self.published_by) == (definition, published_by)

    @staticmethod
    def create_id(definition: str) -> UUID:
        """Return the id of the rule of that name, so that no two have the same."""
        return rule_id(json.loads(definition)["name"])


give_topics(Rule, "notification.Rule")


class Rules(Application[UUID]):
    """A tenant's rules. It is synchronous: call it from a thread."""

    name = APPLICATION

    def publish(
        self, definition: RuleDefinition, expected_version: int, published_by: str
    ) -> tuple[int, int]:
        """Publish a version, and return it with its position on the line.

        Publishing the latest version once more, as a retry does, gives what it gave.

        Args:
            definition: What the rule says; valid.
            expected_version: The latest version that the caller knows; 0: none.
            published_by: Who publishes.

        Raises:
            StaleVersion: another is the latest.
            PersistenceError: the store does not take it, or can't be reached.
        """
        text = json.dumps(MessageToDict(definition, preserving_proto_field_name=True))
        rule = self._latest(definition.name)
        version = 0 if rule is None else rule.version
        if expected_version != version:
            if rule and version - 1 == expected_version and rule.says(text, published_by):
                return version, self.recorder.max_notification_id() or 0
            raise StaleVersion(version)
        if rule is None:
            rule = Rule(definition=text, published_by=published_by)
        else:
            rule.publish(text, published_by)
        try:
            (recording,) = self.save(rule)
        except IntegrityError as error:
            latest = self._latest(definition.name)
            raise StaleVersion(0 if latest is None else latest.version) from error
        return rule.version, recording.notification.id

    def _latest(self, name: str) -> Rule | None:
        try:
            return cast("Rule", self.repository.get(rule_id(name)))
        except AggregateNotFoundError:
            return None


def rule_id(name: str) -> UUID:
    """Return the id of the aggregate that a rule is."""
    return uuid5(NAMESPACE_URL, f"touchline:/rules/{name}")


def publication_of(change: Event, version: int) -> Publication:
    """Return what an opened change of a rule publishes.

    Args:
        change: An event of the aggregate.
        version: Its stream version.
    """
    told = vars(_mapper().to_domain_event(stored_of(change, version, CHANGES)))
    definition = ParseDict(
        json.loads(told["definition"]), RuleDefinition(), ignore_unknown_fields=True
    )
    return Publication(definition, version, told["published_by"])


@lru_cache(maxsize=1)
def _mapper() -> Mapper[UUID]:
    transcoder = JSONTranscoder()
    transcoder.register(UUIDAsHex())
    transcoder.register(DatetimeAsISO())
    return Mapper(transcoder)
