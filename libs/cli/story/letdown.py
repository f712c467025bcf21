"""The story's second half: the kiln fails, a promise is broken, and somebody listens."""

from libs.cli.story.ines import (
    BERLIN,
    CASE,
    DEVICE,
    EMAIL,
    FORUM,
    MASTODON,
    NUMBER,
    PHONE,
    campaign_email,
    ended,
    fired,
    newsletter_consent,
)
from libs.cli.story.telling import Teller, employee, order, promised, system
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts


def loses_it(teller: Teller) -> list[ev.Event]:
    """The kiln stops in mid-firing; a new part is promised."""
    fault = facts.SignalObserved(
        kind="device_fault", text="Thermocouple lost at 1,046 °C; the firing was stopped."
    )
    call = facts.Interaction(
        channel=facts.CHANNEL_PHONE,
        direction=facts.DIRECTION_INBOUND,
        title="The kiln went dark in the middle of a firing",
        text="Eleven bowls for a wedding were inside. Not angry yet, but there is an open studio"
        " coming up and she needs the kiln for it.",
        participants=["agent-7"],
        intent="complaint",
        duration_seconds=9 * 60,
    )
    case = facts.CaseChanged(
        case_id="K-3391",
        status=facts.CASE_STATUS_OPEN,
        subject="Ember 60 stopped at 1,046 °C: controller to be replaced",
        priority="high",
    )
    due = teller.at(6, "17:00")
    promise = promised("replacement-K-3391", "A replacement controller arrives", due)
    mail = facts.Interaction(
        channel=facts.CHANNEL_EMAIL,
        direction=facts.DIRECTION_OUTBOUND,
        title="Your new controller is on its way",
        text=f"We are sorry about the bowls. The new controller reaches you by {due:%A}, 17:00;"
        " it clicks into place without tools.",
    )
    at, agent, told = teller.at, employee("agent-7"), teller.event
    called = told("fault-call", at(12, "08:20"), [PHONE], call, source="pbx", conversation=CASE)
    cause = called.event_id
    return [
        fired(teller, 13, "14:30", "glaze firing", hours=7),
        told("fault", at(13, "21:52"), [DEVICE], fault, source="app", actor=system("ember-cloud")),
        called,
        told("case", at(12, "08:31"), [NUMBER], case, source="desk", actor=agent, cause=cause),
        told("promise", at(12, "08:33"), [NUMBER], promise, source="desk", actor=agent),
        told(
            "promise-mail",
            at(12, "09:02"),
            [EMAIL],
            mail,
            source="mail",
            actor=agent,
            conversation=CASE,
        ),
    ]


def is_let_down(teller: Teller) -> list[ev.Event]:
    """The part does not come, and only she says so."""
    delay = facts.SignalObserved(
        kind="delay", text="Parcel held at the Leipzig depot, new arrival not known."
    )
    broken = ended(
        "replacement-K-3391",
        facts.EXPECTATION_OUTCOME_BROKEN,
        "The parcel never left the depot, and nobody told her.",
    )
    post = facts.Interaction(
        channel=facts.CHANNEL_SOCIAL,
        network="mastodon",
        direction=facts.DIRECTION_INBOUND,
        visibility=facts.VISIBILITY_PUBLIC,
        text="Seven days without a kiln. The part was promised for five o'clock today, so I stayed"
        " in and listened for the doorbell. It's eight now. Open studio with empty shelves, then.",
        intent="complaint",
    )
    carrier, desk = system("parcels"), system("desk")
    at = teller.at
    return [
        teller.event("delay", at(8, "06:45"), [NUMBER], delay, source="carrier", actor=carrier),
        teller.event("broken", at(6, "17:30"), [NUMBER], broken, source="desk", actor=desk),
        teller.event(
            "public-post",
            at(6, "19:58"),
            [MASTODON],
            post,
            source="social",
            conversation=CASE,
            context=ev.Context(location=BERLIN),
        ),
    ]


def speaks_up(teller: Teller) -> list[ev.Event]:
    """A campaign reaches her at the wrong moment, and a rule closes her case."""
    sent = campaign_email("A second kiln, 20 % off", facts.CAMPAIGN_ACTION_SENT)
    reply = facts.Interaction(
        channel=facts.CHANNEL_EMAIL,
        direction=facts.DIRECTION_INBOUND,
        title="Re: A second kiln, 20 % off",
        text="You are selling me a second kiln while the first one stands cold? Please take me off"
        " this list.",
        intent="unsubscribe",
    )
    off = newsletter_consent(facts.CONSENT_STATUS_WITHDRAWN, "her email to the newsletter")
    closed = facts.CaseChanged(case_id="K-3391", status=facts.CASE_STATUS_CLOSED)
    question = facts.CommunityPosted(
        community="kiln-forum",
        title="Has anyone changed the Ember 60 controller themselves?",
        text="Mine may come this week, or this winter. Does the old one come out without taking"
        " the back wall off?",
    )
    mailer, rule = system("campaigns"), system("desk-rule-48h")
    at, tell = teller.at, teller.event
    offer = tell("bad-offer", at(5, "10:00"), [EMAIL], sent, source="newsletter", actor=mailer)
    return [
        offer,
        tell("stop", at(5, "10:21"), [EMAIL], reply, source="mail", cause=offer.event_id),
        tell("newsletter-off", at(5, "10:24"), [EMAIL], off, source="newsletter"),
        tell("auto-close", at(4, "03:00"), [NUMBER], closed, source="desk", actor=rule),
        tell("forum-question", at(4, "21:14"), [FORUM], question, source="forum"),
    ]


def is_heard(teller: Teller) -> list[ev.Event]:
    """Support finds her public words, links her handles, calls, and promises anew."""
    closed_at = teller.at(4, "03:00")
    answer = facts.Interaction(
        channel=facts.CHANNEL_SOCIAL,
        network="mastodon",
        direction=facts.DIRECTION_OUTBOUND,
        visibility=facts.VISIBILITY_PUBLIC,
        text="You waited for a doorbell that could not ring, and we should have told you. That one"
        " is on us. We are calling you today.",
    )
    linked = facts.TraitsObserved(traits={"also_known_as": "ines_fires", "call_after": "18:00"})
    retracted = facts.EventRetracted(
        event_id=teller.id_of("auto-close", closed_at),
        reason="Closed by the 48-hour rule; she had spoken up all along, only elsewhere.",
    )
    call = facts.Interaction(
        channel=facts.CHANNEL_PHONE,
        direction=facts.DIRECTION_OUTBOUND,
        title="Said sorry, found a courier",
        text="The controller goes by courier from the Berlin workshop. She laughed about the"
        " campaign, a little. Nine of the eleven bowls survived.",
        duration_seconds=12 * 60,
    )
    courier = promised("courier-K-3391", "A courier brings the controller", teller.at(-1, "12:00"))
    agent, at, tell = employee("agent-7"), teller.at, teller.event
    known = [NUMBER, FORUM, MASTODON]
    return [
        tell(
            "answer",
            at(3, "09:10"),
            [MASTODON],
            answer,
            source="social",
            actor=agent,
            conversation=CASE,
        ),
        tell("linked", at(3, "09:26"), known, linked, source="crm", actor=agent),
        tell("reopened", at(3, "09:30"), [NUMBER], retracted, source="desk", actor=agent),
        tell("sorry", at(3, "18:05"), [PHONE], call, source="pbx", actor=agent, conversation=CASE),
        tell("courier", at(3, "18:16"), [NUMBER], courier, source="desk", actor=agent),
    ]


def waits(teller: Teller) -> list[ev.Event]:
    """The part is on its way; her last message is unanswered."""
    items = [facts.OrderItem(sku="CT-60", name="Controller, free of charge", quantity=1)]
    shipped = order("W-1207", facts.ORDER_STATUS_SHIPPED, items=items)
    message = facts.Interaction(
        channel=facts.CHANNEL_SMS,
        direction=facts.DIRECTION_INBOUND,
        text="Your courier writes: tomorrow before noon. I'll believe it when I hold it :) Does"
        " the kiln have to be unplugged first?",
        intent="question",
    )
    ago, shop = teller.ago, system("shop")
    return [
        teller.event("shipped", ago(95), [NUMBER], shipped, source="shop", actor=shop),
        teller.event("sms", ago(48), [PHONE], message, source="sms", conversation=CASE),
    ]
