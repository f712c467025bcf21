"""What aggregates are called on the line, for ever: these names may never change."""

import pytest
from eventsourcing.domain import Aggregate
from eventsourcing.utils import get_topic, resolve_topic

from services.engagement.models import ScoringModel
from services.ingestion.catalogue import Catalogue
from services.notification.expectations.promises import Promise
from services.notification.rules.published import Rule

TOPICS = {
    "engagement.ScoringModel": (ScoringModel, ("FirstPublished", "Published")),
    "ingestion.CustomEventTypes": (Catalogue, ("FirstRegistered", "Registered")),
    "notification.Rule": (Rule, ("FirstPublished", "Published")),
    "notification.Promise": (Promise, ("Given", "Renegotiated", "Ended")),
}


@pytest.mark.parametrize("name", TOPICS)
def test_an_aggregate_and_its_events_keep_their_names_wherever_their_module_is(name: str) -> None:
    aggregate, events = TOPICS[name]
    assert issubclass(aggregate, Aggregate)
    assert get_topic(aggregate) == name
    assert resolve_topic(name) is aggregate
    for event in events:
        known = vars(aggregate)[event]
        assert get_topic(known) == f"{name}.{event}"
        assert resolve_topic(f"{name}.{event}") is known
