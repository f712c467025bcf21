"""The story's first half: she finds a kiln, buys it, loves it and wants another."""

from libs.cli.story.ines import (
    CUSTOMER,
    DEVICE,
    EMAIL,
    FORUM,
    NUMBER,
    OFFER,
    PHONE,
    campaign_email,
    ended,
    fired,
    newsletter_consent,
)
from libs.cli.story.telling import Teller, employee, euros, order, promised, system
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts


def finds_it(teller: Teller) -> list[ev.Event]:
    """She calls, and gets an offer."""
    call = facts.Interaction(
        channel=facts.CHANNEL_PHONE,
        direction=facts.DIRECTION_INBOUND,
        title="Which kiln runs on an ordinary socket?",
        text="Has a small pottery in a back courtyard and carries every bowl across the city to"
        " have it fired. Would like to do it herself, on a plain 16-amp socket.",
        participants=["sales-3"],
        intent="question",
        duration_seconds=14 * 60,
    )
    offer = facts.Interaction(
        channel=facts.CHANNEL_EMAIL,
        direction=facts.DIRECTION_OUTBOUND,
        title="Your offer: Ember 60",
        text="Dear Ms Falk, the Ember 60 reaches 1,280 °C on the socket you have. With two sets of"
        " shelves it comes to € 2,480, brought into the courtyard.",
    )
    called = teller.event(
        "call", teller.at(44, "10:12"), [PHONE], call, source="pbx", conversation=OFFER
    )
    wrote = teller.event(
        "offer",
        teller.at(44, "16:40"),
        [EMAIL],
        offer,
        source="mail",
        actor=employee("sales-3"),
        conversation=OFFER,
        cause=called.event_id,
    )
    return [called, wrote]


def buys_it(teller: Teller) -> list[ev.Event]:
    """She orders; the kiln comes in time."""
    due = teller.at(35, "18:00")
    shop, crm = [NUMBER, EMAIL], [NUMBER, PHONE]
    items = [
        facts.OrderItem(sku="EM-60", name="Ember 60 kiln", quantity=1, unit_price=euros(2190)),
        facts.OrderItem(sku="SH-60", name="Set of shelves", quantity=2, unit_price=euros(145)),
    ]
    placed = order(
        "S-50731",
        facts.ORDER_STATUS_PLACED,
        items=items,
        amount=euros(2480),
        channel=facts.CHANNEL_WEB,
    )
    newsletter = newsletter_consent(
        facts.CONSENT_STATUS_GRANTED, "ticked at the checkout of S-50731"
    )
    known = facts.TraitsObserved(
        traits={"name": CUSTOMER, "city": "Berlin", "occupation": "potter", "studio": "Falk & Ton"}
    )
    kept = ended("delivery-S-50731", facts.EXPECTATION_OUTCOME_KEPT)
    shipped = order("S-50731", facts.ORDER_STATUS_DELIVERED)
    delivery = promised("delivery-S-50731", "The kiln stands in the courtyard", due)
    at = teller.at
    tell, robot = teller.event, system("shop")
    bought = tell("order", at(41, "19:32"), shop, placed, source="shop")
    return [
        bought,
        tell("newsletter-on", at(41, "19:32"), shop, newsletter, source="shop"),
        tell(
            "delivery",
            at(41, "19:33"),
            shop,
            delivery,
            source="shop",
            actor=robot,
            cause=bought.event_id,
        ),
        tell("known", at(40, "09:05"), crm, known, source="crm", actor=employee("sales-3")),
        tell("delivered", at(36, "14:10"), [NUMBER], shipped, source="shop", actor=robot),
        tell("delivery-kept", at(36, "14:10"), [NUMBER], kept, source="shop", actor=robot),
    ]


def loves_it(teller: Teller) -> list[ev.Event]:
    """She fires, and tells others."""
    signed_in = facts.TraitsObserved(traits={"kiln": "Ember 60", "app_language": "de"})
    post = facts.CommunityPosted(
        community="kiln-forum",
        title="Ten days with a 60-litre kiln on a house socket",
        text="Four firings, no tripped fuse, and the celadon came out like pond ice. If anyone in"
        " Berlin wants to look at one before buying: my door is open.",
    )
    return [
        fired(teller, 35, "18:02", "bisque firing", hours=8),
        teller.event("sign-in", teller.at(34, "18:25"), [DEVICE, NUMBER], signed_in, source="app"),
        fired(teller, 33, "07:40", "bisque firing", hours=8),
        fired(teller, 31, "08:15", "glaze firing", hours=10),
        fired(teller, 28, "07:55", "glaze firing", hours=11),
        teller.event("forum-praise", teller.at(25, "20:48"), [FORUM], post, source="forum"),
    ]


def wants_more(teller: Teller) -> list[ev.Event]:
    """She thinks of a second kiln."""
    visit = facts.Interaction(
        channel=facts.CHANNEL_IN_PERSON,
        direction=facts.DIRECTION_INBOUND,
        title="Came by the showroom to see the Ember 120",
        text="Plans evening classes from spring and would need a second, larger kiln; thinks of"
        " some € 4,000. Brought us a celadon cup as a present.",
        participants=["sales-3"],
        intent="purchase",
        duration_seconds=35 * 60,
    )
    note = facts.NoteAdded(
        text="Ready to order the Ember 120 before the year ends if the small one stays reliable."
        " Also, the cup is lovely: it stands on my desk."
    )
    clicked = campaign_email("Autumn glazes", facts.CAMPAIGN_ACTION_CLICKED)
    seller = employee("sales-3")
    return [
        teller.event("glazes", teller.at(22, "11:06"), [EMAIL], clicked, source="newsletter"),
        fired(teller, 21, "08:05", "glaze firing", hours=10),
        fired(teller, 19, "07:30", "bisque firing", hours=9),
        teller.event("visit", teller.at(17, "15:20"), [NUMBER], visit, source="crm"),
        teller.event("note", teller.at(17, "16:02"), [NUMBER], note, source="crm", actor=seller),
    ]
