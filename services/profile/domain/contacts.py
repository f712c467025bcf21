"""Contacts of a customer: interactions and community posts, and the threads they form."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from services.profile.domain.touches import Seen, id_bytes, of_type, order, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

LIVE = frozenset({facts_pb2.CHANNEL_PHONE, facts_pb2.CHANNEL_IN_PERSON})
"""Channels on which both sides are there at the same time, so that a contact needs no answer."""


@dataclass(frozen=True, slots=True)
class ContactSeen:
    """One contact, whichever fact told of it.

    Attributes:
        seen: The touch.
        channel: The medium.
        direction: Which way it went. A post by an employee or a system is the company's.
        answers: The id of the contact it answers, if it says so.
    """

    seen: Seen
    channel: facts_pb2.Channel.ValueType
    direction: facts_pb2.Direction.ValueType
    answers: bytes | None

    @property
    def inbound(self) -> bool:
        """Whether it came from the customer."""
        return self.direction == facts_pb2.DIRECTION_INBOUND

    @property
    def outbound(self) -> bool:
        """Whether it went to the customer."""
        return self.direction == facts_pb2.DIRECTION_OUTBOUND


def contacts(history: Sequence[Seen]) -> list[ContactSeen]:
    """The contacts in a history, in its order."""
    types = event_pb2.EVENT_TYPE_INTERACTION, event_pb2.EVENT_TYPE_COMMUNITY_POSTED
    return [_contact(seen) for seen in of_type(history, *types)]


def _contact(seen: Seen) -> ContactSeen:
    event = seen.event
    if seen.type == event_pb2.EVENT_TYPE_INTERACTION:
        said = event.interaction
        answers = id_bytes(said.in_reply_to) if said.in_reply_to else None
        return ContactSeen(seen, said.channel, said.direction, answers)
    post = event.community_posted
    by_us = event.actor.kind in (event_pb2.ACTOR_KIND_EMPLOYEE, event_pb2.ACTOR_KIND_SYSTEM)
    direction = facts_pb2.DIRECTION_OUTBOUND if by_us else facts_pb2.DIRECTION_INBOUND
    answers = id_bytes(post.in_reply_to) if post.in_reply_to else None
    return ContactSeen(seen, facts_pb2.CHANNEL_COMMUNITY, direction, answers)


def show_contact(contact: ContactSeen) -> views_pb2.Contact:
    """A contact as a view shows it; what the view's policy hides is empty."""
    event = contact.seen.event
    shown = views_pb2.Contact(
        event_id=event.event_id,
        occurred_at=timestamp(contact.seen.at_us),
        channel=contact.channel,
        direction=contact.direction,
        actor_reference=event.actor.reference,
    )
    if contact.seen.type == event_pb2.EVENT_TYPE_INTERACTION:
        said = event.interaction
        shown.title, shown.text, shown.intent = said.title, said.text, said.intent
        shown.visibility = said.visibility or facts_pb2.VISIBILITY_PRIVATE
    else:
        shown.title, shown.text = event.community_posted.title, event.community_posted.text
        shown.visibility = facts_pb2.VISIBILITY_PUBLIC
    return shown


def threads(touched: Iterable[ContactSeen]) -> list[list[ContactSeen]]:
    """Groups contacts that share a conversation or answer one another, directly or in a chain.

    The groups are the connected components, so they don't depend on what is looked at first, and
    an answer that came in a conversation of its own still belongs to what it answers.

    Returns:
        The threads, each in `order`; a contact without any link is a thread alone.
    """
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while (above := parent.setdefault(node, node)) != node:
            parent[node] = node = parent[above]
        return node

    every = sorted(touched, key=lambda contact: order(contact.seen))
    for contact in every:
        if contact.seen.event.conversation_id:
            # A text can't be mistaken for an event id, which is bytes.
            parent[root(contact.seen.event.conversation_id)] = root(contact.seen.event_id)
        if contact.answers is not None:
            parent[root(contact.answers)] = root(contact.seen.event_id)
    groups: dict[Hashable, list[ContactSeen]] = {}
    for contact in every:
        groups.setdefault(root(contact.seen.event_id), []).append(contact)
    return list(groups.values())
