"""Commands that are to be done once, each of which may be asked for again."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from touchline.client import Client
from touchline.engagement.v1.engagement_pb2 import ModelDefinition, ScoringRule
from touchline.engagement.v1.engagement_service_pb2 import PublishModelRequest
from touchline.events.v1.decisions_pb2 import NOTIFICATION_CHANNEL_INBOX
from touchline.events.v1.event_pb2 import EVENT_TYPE_PAYMENT_ATTEMPTED
from touchline.events.v1.filter_pb2 import EventFilter
from touchline.events.v1.identity_pb2 import Identity
from touchline.notification.v1.notification_pb2 import Notice, RuleDefinition
from touchline.notification.v1.notification_service_pb2 import PublishRuleRequest
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import DecidedProfile, MergeProfilesRequest


async def publish_rule(client: Client, name: str, number: int, expected: int) -> int:
    """Publish a version of a rule that tells a team of declined payments; return the version.

    Args:
        client: Whom to ask.
        name: The rule's and the team's; the ids of the payments begin with it.
        number: Makes the version another one.
        expected: The version before.
    """
    definition = RuleDefinition(
        name=name,
        on=EventFilter(types=[EVENT_TYPE_PAYMENT_ATTEMPTED]),
        condition=f"event.fact.payment_id.startsWith('{name}')",
        reason=f"The payment {{{{ event.fact.payment_id }}}} was declined ({number}).",
        notices=[Notice(reference=name, title="Call back", channels=[NOTIFICATION_CHANNEL_INBOX])],
    )
    response = await client.notification.PublishRule(
        PublishRuleRequest(definition=definition, expected_version=expected, published_by="ana")
    )
    return int(response.version)


async def publish_model(client: Client, name: str, number: int, expected: int) -> int:
    """Publish a version of a scoring model; return the version. See publish_rule."""
    rules = [ScoringRule(name="notes", weight=1 + number / 1000)]
    definition = ModelDefinition(name=name, rules=rules)
    response = await client.engagement.PublishModel(
        PublishModelRequest(definition=definition, expected_version=expected, published_by="ana")
    )
    return int(response.version)


PUBLISH: Final[Mapping[str, Callable[[Client, str, int, int], Awaitable[int]]]] = {
    "rule": publish_rule,
    "model": publish_model,
}


async def merge(
    client: Client, left: Identity, right: Identity, decision_id: str, after_position: int
) -> int:
    """Merge two customers' profiles; return the decision's position."""
    both = [DecidedProfile(profile=ProfileReference(identity=one)) for one in (left, right)]
    response = await client.profile.MergeProfiles(
        MergeProfilesRequest(
            left=both[0],
            right=both[1],
            decided_by="ana",
            reason="They say so",
            decision_id=decision_id,
            after_position=after_position,
        )
    )
    return int(response.result.position)
