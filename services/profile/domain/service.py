"""A customer as service sees them: what is open, who waits for an answer, what was said last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from services.profile.domain.contacts import LIVE, ContactSeen, contacts, show_contact, threads
from services.profile.domain.field_policy import FieldPolicy
from services.profile.domain.orders import orders
from services.profile.domain.promises import SHOWN_PROMISES, promises, show_promise
from services.profile.domain.touches import Seen, of_type, order, timestamp
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

# Who answers must know every word on every channel, also what colleagues said to one another.
# What was bought for how much, campaigns, consents and traits answer no question of a case.
POLICY = FieldPolicy(
    frozenset(
        {
            "event_id",  # to look it up
            "source",  # a case's and an order's number count within it
            "conversation_id",  # to tell answered from unanswered
            "actor.kind",  # to tell the company's posts from the customer's
            "actor.reference",  # whom to ask
            "interaction.channel",
            "interaction.direction",
            "interaction.visibility",
            "interaction.title",
            "interaction.text",
            "interaction.intent",
            "interaction.in_reply_to",  # to tell answered from unanswered
            "community_posted.title",
            "community_posted.text",
            "community_posted.in_reply_to",  # to tell answered from unanswered
            "case_changed.case_id",
            "case_changed.status",
            "case_changed.subject",
            "case_changed.priority",
            "order_changed.order_id",  # to name the order whose date was promised
            "order_changed.status",  # to know whether it arrived
            "order_changed.promised_at",
            "expectation_set.expectation_id",
            "expectation_set.promise",
            "expectation_set.due_at",
            "expectation_resolved.expectation_id",
            "expectation_resolved.outcome",
            "expectation_resolved.due_at",
            "expectation_resolved.reason",  # to be able to explain
        }
    ),
    directions=frozenset(facts_pb2.Direction.values()),
)
READS = POLICY.reads
_SHOWN = 10
_DONE = (facts_pb2.CASE_STATUS_SOLVED, facts_pb2.CASE_STATUS_CLOSED)


def fold(history: Sequence[Seen], now_us: int) -> views_pb2.ServiceView:
    """Folds what service may see of a profile.

    Args:
        history: What `see` made of the profile's events by this module's policy.
        now_us: The time at which promises stand so, in microseconds since 1970.
    """
    touched = contacts(history)
    standing = promises(history, orders(history), now_us)
    wanted = [promise for promise in standing if promise.pending]
    return views_pb2.ServiceView(
        open_cases=open_cases(history),
        unanswered_messages=[show_contact(contact) for contact in unanswered(touched)],
        last_contacts=[show_contact(contact) for contact in reversed(touched[-_SHOWN:])],
        promises=[show_promise(promise) for promise in wanted[:SHOWN_PROMISES]],
    )


def open_cases(history: Sequence[Seen]) -> list[views_pb2.Case]:
    """The cases that are neither solved nor closed, the longest open first."""
    changes: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for seen in of_type(history, event_pb2.EVENT_TYPE_CASE_CHANGED):
        changes[seen.event.source, seen.event.case_changed.case_id].append(seen)
    # A group's first change is its earliest, and the groups came up in that order.
    cases = [_case(source, number, told) for (source, number), told in changes.items()]
    return [case for case in cases if case.status not in _DONE]


def _case(source: str, case_id: str, changes: Sequence[Seen]) -> views_pb2.Case:
    case = views_pb2.Case(
        case_id=case_id,
        source=source,
        opened_at=timestamp(changes[0].at_us),
        status=facts_pb2.CASE_STATUS_OPEN,
    )
    for seen in changes:
        change = seen.event.case_changed
        case.status = change.status or case.status
        case.subject = change.subject or case.subject
        case.priority = change.priority or case.priority
    return case


def unanswered(touched: Sequence[ContactSeen]) -> list[ContactSeen]:
    """The customer's messages that nobody answered, the oldest first.

    A later contact to the customer in the same thread answers, on whatever channel; so does a
    call or a meeting, whoever sought it, and whatever names the message as what it answers.
    """
    waiting = []
    for thread in threads(touched):
        answers = [one for one in thread if one.outbound or one.channel in LIVE]
        named = {one.answers for one in answers}
        last = max((order(one.seen) for one in answers), default=(0, b""))
        waiting += [
            one
            for one in thread
            if _awaits_answer(one) and order(one.seen) > last and one.seen.event_id not in named
        ]
    return sorted(waiting, key=lambda contact: order(contact.seen))


def _awaits_answer(contact: ContactSeen) -> bool:
    """Whether a contact is a message to the company, public or private.

    Who calls or comes is answered at once. A post that answers another in a community speaks to
    its author; one that opens a thread asks everybody, the company too.
    """
    if not contact.inbound or contact.channel in LIVE:
        return False
    posted = contact.seen.type == event_pb2.EVENT_TYPE_COMMUNITY_POSTED
    return not (posted and contact.seen.event.community_posted.in_reply_to)
