"""The views show the essential, side by side or alone, and say when there is nothing."""

from datetime import timedelta
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.rendering import palette
from libs.cli.rendering.sections import View
from libs.cli.rendering.views import four_views, one_view
from libs.cli.story import story
from services.profile.domain import Touch, show
from tests.given import consents
from tests.terminal import NOW, joined, shown
from touchline.events.v1 import facts_pb2 as facts
from touchline.profile.v1 import views_pb2 as views

WIDTHS = pytest.mark.parametrize("width", [50, 80, 120, 160, 200])


def at(days: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW + timedelta(days=days))
    return stamp


CONTACT = views.Contact(
    occurred_at=at(-2),
    channel=facts.CHANNEL_SOCIAL,
    direction=facts.DIRECTION_INBOUND,
    visibility=facts.VISIBILITY_PUBLIC,
    title="Where is my parcel?",
    text="It was promised for Monday, and " + "nobody came, " * 40,
    intent="complaint",
)
SILENT = views.Contact(
    occurred_at=at(0), channel=facts.CHANNEL_SMS, direction=facts.DIRECTION_INBOUND, intent="thanks"
)
ORDER = views.Order(
    order_id="S-1",
    placed_at=at(-9),
    status=facts.ORDER_STATUS_SHIPPED,
    amount=facts.Money(currency_code="EUR", micros=1_249_000_000),
    items=[facts.OrderItem(name="Kiln", quantity=2)],
    promised_at=at(1),
)
PROMISES = [
    views.Promise(promise="A call back", due_at=at(-1), status=views.PROMISE_STATUS_OVERDUE),
    views.Promise(
        promise="A new lid", due_at=at(-3), status=views.PROMISE_STATUS_BROKEN, reason="No stock"
    ),
    views.Promise(promise="An invoice", due_at=at(2), status=views.PROMISE_STATUS_OPEN),
]
CONSENT = views.Consent(
    purpose="newsletter",
    channel=facts.CHANNEL_EMAIL,
    status=facts.CONSENT_STATUS_WITHDRAWN,
    since=at(-5),
)
SALES = views.SalesView(
    meaningful_contacts=[CONTACT, SILENT],
    orders=[ORDER],
    order_count=12,
    order_totals=[facts.Money(currency_code="EUR", micros=4_000_500_000)],
    signals=[views.Signal(occurred_at=at(-1), kind="job_change", text="Leads a studio now")],
    promises=PROMISES,
)
SERVICE = views.ServiceView(
    open_cases=[
        views.Case(case_id="K-7", opened_at=at(-12), subject="Lid broken", priority="high")
    ],
    unanswered_messages=[CONTACT],
    last_contacts=[CONTACT] * 7,
    promises=PROMISES,
)
MARKETING = views.MarketingView(
    channels=[
        views.ChannelUse(
            channel=facts.CHANNEL_EMAIL, inbound=1, outbound=3, total=5, last_at=at(-1)
        )
    ],
    campaigns=[
        views.Campaign(
            campaign="Autumn", furthest_action=facts.CAMPAIGN_ACTION_CLICKED, last_at=at(-4)
        )
    ],
    consents=[CONSENT],
    products=[views.ProductUse(product="Atlas", uses=14, duration_seconds=12_000, last_at=at(-1))],
)
CUSTOMER = views.CustomerView(
    known_facts=[views.KnownFact(name="city", value="Berlin", since=at(-40))],
    contacts=[CONTACT],
    promises=PROMISES,
    orders=[ORDER],
    consents=[CONSENT],
)
KINDS = (
    views.VIEW_KIND_SALES,
    views.VIEW_KIND_SERVICE,
    views.VIEW_KIND_MARKETING,
    views.VIEW_KIND_CUSTOMER,
)
EMPTY = (views.SalesView(), views.ServiceView(), views.MarketingView(), views.CustomerView())


@WIDTHS
def test_four_views_fit_and_show_the_essential_of_each(width: int) -> None:
    text = shown(four_views(SALES, SERVICE, MARKETING, CUSTOMER, now=NOW), width)
    # Cells of a row stand between frames; beside each other they interleave.
    words = text.replace("│", " ")
    for essential in ("Sales", "Service", "Marketing", "Customer", "€ 4,000.50", "Lid broken"):
        assert essential in words
    for essential in (
        "K-7",
        f"Atlas {palette.TIMES} 14",
        "3 h 20 min",
        "Job change",
        "City: Berlin",
        "overdue",
    ):
        assert essential in words
    assert words.count("broken") >= 3
    assert "and 3 more" in words


@pytest.mark.parametrize(
    ("width", "side_by_side"), [(200, 4), (160, 4), (120, 2), (80, 2), (50, 1)]
)
def test_the_width_decides_how_many_views_stand_side_by_side(width: int, side_by_side: int) -> None:
    text = shown(four_views(SALES, SERVICE, MARKETING, CUSTOMER, now=NOW), width)
    assert text.splitlines()[0].count("╭") == side_by_side
    assert text.count("╭") == text.count("╯") == 4


@WIDTHS
def test_each_view_holds_its_half_of_the_story(width: int) -> None:
    touches = [
        Touch(
            position=position,
            recorded_at_us=0,
            occurred_at_us=event.occurred_at.ToMicroseconds(),
            event=event,
            event_id=UUID(event.event_id).bytes,
        )
        for position, event in enumerate(story(NOW), start=1)
    ]
    now_us, stand = int(NOW.timestamp()) * 1_000_000, consents(*touches)
    sales, service, marketing, customer = (show(kind, touches, now_us, stand) for kind in KINDS)
    assert isinstance(sales, views.SalesView)
    assert isinstance(service, views.ServiceView)
    assert isinstance(marketing, views.MarketingView)
    assert isinstance(customer, views.CustomerView)
    text = shown(four_views(sales, service, marketing, customer, now=NOW), width)
    for known in ("€ 2,480.00", "Device fault", "K-3391 · high", "Newsletter by email", "Studio"):
        assert known in text


def test_a_given_width_is_kept_in_a_wider_terminal() -> None:
    text = shown(four_views(*EMPTY, now=NOW, width=100), 200)
    assert max(map(len, map(str.rstrip, text.splitlines()))) == 100


@WIDTHS
def test_empty_views_say_so_in_a_word(width: int) -> None:
    text = shown(four_views(*EMPTY, now=NOW), width)
    for word in ("None open.", "Nothing to know.", "All answered.", "Nothing said.", "None used."):
        assert word in text


@pytest.mark.parametrize("view", [SALES, SERVICE, MARKETING, CUSTOMER, *EMPTY])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_one_view_fits(view: View, width: int) -> None:
    shown(one_view(view, now=NOW), width)


def test_one_view_shows_everything_in_full() -> None:
    text = joined(shown(one_view(SERVICE, now=NOW), 100).replace("│", " "))
    assert text.count("Where is my parcel?") == 8
    assert text.count("nobody came") == 40
    assert "more" not in text
    assert "K-7 · high · opened 12 days ago" in text
    assert "broken · due 31 Oct 15:20" in text
    assert "No stock" in text


def test_a_contact_without_words_is_named_by_what_was_wanted() -> None:
    assert "Thanks by SMS" in shown(one_view(SALES, now=NOW))


def test_what_was_left_out_is_said() -> None:
    assert "Older events were left out." in shown(one_view(SALES, now=NOW, truncated=True))
