"""The aggregate that registers types of custom events.

A tenant's types are one aggregate, so one stream: whether there is anything new is one look at an
index, and the bound on all types together is kept like any other rule.
"""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError

from libs.eventstore.aggregates import give_topics
from libs.identity.keys import Identified, IdentityKeys
from libs.identity.streams import stream_identity

APPLICATION: Final = "event_types"
"""The application's name; it is part of the name of the aggregate's stream."""

MAX_TYPES: Final = 1000
MAX_CHARACTERS: Final = 2 * 1024 * 1024
"""What all types of a tenant may have together: they are listed in one answer."""

_CATALOGUE: Final = UUID("3f0c1f4e-9a0b-4d53-8e2b-6a5d7c1b9e42")
_ATTEMPTS: Final = 10


class StaleVersion(Exception):
    """Another version of the type was registered than the one that the caller knows.

    Attributes:
        version: The newest one; 0 when there is none.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"the newest version is {version}")
        self.version = version


class TooManyTypes(Exception):
    """A tenant has as many types as it may have, or they are as large together as they may be."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What a type is registered as."""

    description: str
    json_schema: str

    @property
    def characters(self) -> int:
        """How much it takes of what all types may have together."""
        return len(self.description) + len(self.json_schema)


class Catalogue(Aggregate):
    """A tenant's types of custom events. Each of its changes registers a version of one."""

    @event("FirstRegistered")
    def __init__(self, name: str, description: str, json_schema: str) -> None:
        self.types: dict[str, Definition] = {}
        self.versions: dict[str, int] = {}
        self._put(name, Definition(description, json_schema))

    @event("Registered")
    def register(self, name: str, description: str, json_schema: str) -> None:
        """Register a type, or a new version of one."""
        self._put(name, Definition(description, json_schema))

    def _put(self, name: str, definition: Definition) -> None:
        self.types[name] = definition
        self.versions[name] = self.versions.get(name, 0) + 1

    @staticmethod
    def create_id() -> UUID:
        """Return the id that the aggregate has in every tenant."""
        return _CATALOGUE


give_topics(Catalogue, "ingestion.CustomEventTypes")


class Registering(Application[UUID]):
    """Registers a tenant's types. It is synchronous: call it by asyncio.to_thread."""

    name = APPLICATION

    def register(
        self, name: str, definition: Definition, expected_version: int
    ) -> tuple[int, bool]:
        """Register a type, or a new version of one, once however often the caller repeats it.

        Args:
            name: The type's name.
            definition: A definition without violations.
            expected_version: The newest version that the caller knows; 0 when there is none.

        Returns:
            The version that says so, and whether it was there already.

        Raises:
            StaleVersion: another one is the newest, and says something else.
            TooManyTypes: there is no room for it.
            PersistenceError: the store does not take it, or can't be reached.
        """
        for _ in range(_ATTEMPTS):
            catalogue = self._catalogue()
            version = catalogue.versions.get(name, 0) if catalogue else 0
            if catalogue and catalogue.types.get(name) == definition:
                return version, True
            if version != expected_version:
                raise StaleVersion(version)
            if catalogue:
                _make_room(catalogue, name, definition)
                catalogue.register(name, definition.description, definition.json_schema)
            else:
                catalogue = Catalogue(name, definition.description, definition.json_schema)
            # Somebody registered another type meanwhile, if not this one.
            with suppress(IntegrityError):
                self.save(catalogue)
                return version + 1, False
        raise StaleVersion(version)

    def _catalogue(self) -> Catalogue | None:
        try:
            found: Catalogue = self.repository.get(_CATALOGUE)
        except AggregateNotFoundError:
            return None
        return found


def _make_room(catalogue: Catalogue, name: str, definition: Definition) -> None:
    types = {**catalogue.types, name: definition}
    if len(types) > MAX_TYPES:
        raise TooManyTypes(f"there are {MAX_TYPES:,} types already, and no more may be")
    if sum(one.characters for one in types.values()) > MAX_CHARACTERS:
        raise TooManyTypes(
            f"with it, all types together would have more than {MAX_CHARACTERS:,} characters; "
            "shorten descriptions and schemas"
        )


def stream_owner(keys: IdentityKeys) -> Identified:
    """Return the identity that names the stream of a tenant's types."""
    return keys.identify(stream_identity(APPLICATION, f"urn:uuid:{_CATALOGUE}"))


def registration_in(state: bytes) -> dict[str, str]:
    """Return name, description and json_schema of a change as the library serialised it."""
    told = json.loads(state)
    return {name: told[name] for name in ("name", "description", "json_schema")}
