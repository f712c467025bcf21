"""The story's end, which happens while it is told: one more promise, and what she says of it."""

from libs.cli.story.ines import BERLIN, CASE, MASTODON
from libs.cli.story.telling import Teller
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts

PROMISE = "Somebody tells her whether to unplug the kiln first"
PROMISE_ID = "unplug-K-3391"
PROMISED_BY = "agent-7"
TEAM = "team:service"
TEAM_EMAIL = "service@kilns.example"


def is_called_in_time(teller: Teller) -> ev.Event:
    """She tells everybody; nothing in it is a complaint."""
    post = facts.Interaction(
        channel=facts.CHANNEL_SOCIAL,
        network="mastodon",
        direction=facts.DIRECTION_INBOUND,
        visibility=facts.VISIBILITY_PUBLIC,
        text="They broke a promise again, a small one, and this time they noticed before I did and"
        " rang me up. Unplug it first, in case you wonder. I may buy that second kiln after all.",
        intent="praise",
    )
    return teller.event(
        "public-praise",
        teller.now,
        [MASTODON],
        post,
        source="social",
        conversation=CASE,
        context=ev.Context(location=BERLIN),
    )
