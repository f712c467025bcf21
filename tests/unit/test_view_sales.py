from services.profile.domain import Touch, show
from tests.given import (
    by_employee,
    call,
    case,
    contact,
    email,
    money,
    note,
    order,
    public_post,
    retraction,
    signal,
    us,
)
from touchline.events.v1 import facts_pb2
from touchline.profile.v1 import views_pb2

NOW = us("2024-06-01")


def sales(*touches: Touch) -> views_pb2.SalesView:
    view = show(views_pb2.VIEW_KIND_SALES, touches, NOW)
    assert isinstance(view, views_pb2.SalesView)
    return view


def talked(*touches: Touch) -> list[str]:
    """Titles of the meaningful contacts."""
    return [one.title for one in sales(*touches).meaningful_contacts]


def test_nothing_happened_and_nothing_shows() -> None:
    assert sales() == views_pb2.SalesView()


def test_a_call_that_lasted_is_meaningful_and_an_attempt_is_not() -> None:
    lasted = call("2024-05-01", title="Which bike?", actor=by_employee())
    attempt = call("2024-05-02", "outbound", seconds=0, title="Nobody there")
    (shown,) = sales(lasted, attempt).meaningful_contacts
    assert (shown.title, shown.actor_reference) == ("Which bike?", "agent-7")
    assert shown.channel == facts_pb2.CHANNEL_PHONE


def test_a_thread_of_mail_is_one_contact_once_both_sides_wrote() -> None:
    asked = email("2024-05-01", title="Question", conversation_id="t")
    answered = email("2024-05-02", "outbound", title="Answer", conversation_id="t")
    thanked = email("2024-05-03", title="Thanks", conversation_id="t")
    assert talked(asked) == []
    assert talked(asked, answered, thanked) == ["Thanks"]


def test_an_answer_that_names_what_it_answers_makes_a_thread_too() -> None:
    asked = email("2024-05-01", title="Question")
    answered = contact(
        "2024-05-02", "chat", "outbound", title="Answer", in_reply_to=asked.event.event_id
    )
    assert talked(asked, answered) == ["Answer"]


def test_unrelated_mails_of_both_sides_are_no_exchange() -> None:
    assert talked(email("2024-05-01", title="In"), email("2024-05-02", "outbound")) == []


def test_a_call_that_lasted_stands_for_itself_within_a_thread() -> None:
    asked = email("2024-05-01", title="Question", conversation_id="t")
    called = call("2024-05-02", "outbound", title="Called back", conversation_id="t")
    assert talked(asked, called) == ["Called back", "Question"]


def test_the_five_latest_contacts_show_newest_first() -> None:
    calls = [call(f"2024-05-0{day}", title=f"call {day}") for day in range(1, 8)]
    assert talked(*calls) == ["call 7", "call 6", "call 5", "call 4", "call 3"]


def test_what_was_said_does_not_show() -> None:
    view = sales(call("2024-05-01", title="Which bike?", text="I am ill", intent="question"))
    (shown,) = view.meaningful_contacts
    assert (shown.text, shown.intent) == ("", "question")


def test_cases_notes_and_talk_within_the_company_do_not_show() -> None:
    view = sales(
        case("2024-05-01", "7", "open", subject="Broken frame"),
        note("2024-05-01", "Difficult"),
        call("2024-05-01", "internal", title="What do we do with them?"),
        public_post("2024-05-01", "peer", title="Among riders"),
    )
    assert view == views_pb2.SalesView()


def test_a_change_of_an_order_leaves_what_it_does_not_say() -> None:
    bike = facts_pb2.OrderItem(sku="b-1", name="Bike", quantity=1, unit_price=money(900))
    view = sales(
        order("2024-05-03", "1", "shipped"),
        order("2024-05-01", "1", "placed", amount=money(900), items=[bike]),
        order("2024-05-02", "1", promised="2024-05-10"),
    )
    (shown,) = view.orders
    assert shown == views_pb2.Order(
        order_id="1",
        source="shop",
        placed_at=shown.placed_at,
        status=facts_pb2.ORDER_STATUS_SHIPPED,
        amount=money(900),
        items=[bike],
        promised_at=shown.promised_at,
    )
    assert shown.placed_at.ToMicroseconds() == us("2024-05-01")
    assert shown.promised_at.ToMicroseconds() == us("2024-05-10")


def test_of_two_changes_at_one_time_the_greater_event_id_wins() -> None:
    small = order("2024-05-01", "1", amount=money(1), event_id=1)
    great = order("2024-05-01", "1", amount=money(2), event_id=2)
    assert sales(great, small).orders[0].amount == money(2)


def test_an_order_whose_state_nobody_said_is_placed() -> None:
    assert sales(order("2024-05-01", "1")).orders[0].status == facts_pb2.ORDER_STATUS_PLACED


def test_the_same_number_in_two_systems_names_two_orders() -> None:
    view = sales(order("2024-05-01", "1"), order("2024-05-02", "1", source="branch"))
    assert [(one.source, one.order_id) for one in view.orders] == [("branch", "1"), ("shop", "1")]


def test_totals_are_exact_per_currency_without_what_was_cancelled_or_returned() -> None:
    view = sales(
        order("2024-05-01", "1", amount=money(0.1)),
        order("2024-05-02", "2", amount=money(0.2)),
        order("2024-05-03", "3", amount=money(5, "CHF")),
        order("2024-05-04", "4", "cancelled", amount=money(100)),
        order("2024-05-05", "5", amount=money(100)),
        order("2024-05-06", "5", "returned"),
        order("2024-05-07", "6"),
    )
    assert list(view.order_totals) == [money(5, "CHF"), money(0.3)]
    assert view.order_count == 6


def test_a_sum_beyond_any_field_stops_at_the_greatest_number() -> None:
    most = facts_pb2.Money(currency_code="EUR", micros=2**63 - 1)
    view = sales(order("2024-05-01", "1", amount=most), order("2024-05-01", "2", amount=most))
    assert list(view.order_totals) == [most]


def test_ten_orders_show_newest_first_and_all_are_counted() -> None:
    view = sales(*(order(f"2024-05-{day:02}", str(day)) for day in range(1, 13)))
    assert [one.order_id for one in view.orders] == [str(day) for day in range(12, 2, -1)]
    assert view.order_count == 12


def test_the_five_latest_signals_show_newest_first() -> None:
    view = sales(*(signal(f"2024-05-0{day}", f"kind {day}", "what") for day in range(1, 8)))
    assert [one.kind for one in view.signals] == [f"kind {day}" for day in (7, 6, 5, 4, 3)]
    assert view.signals[0].text == "what"


def test_what_was_retracted_does_not_count_even_if_the_retraction_came_first() -> None:
    wrong = order("2024-05-01", "1", amount=money(10))
    right = order("2024-05-02", "2", amount=money(20))
    view = sales(retraction("2024-05-03", of=wrong), wrong, right)
    assert [one.order_id for one in view.orders] == ["2"]
    assert list(view.order_totals) == [money(20)]


def test_a_retraction_can_not_be_retracted() -> None:
    wrong = order("2024-05-01", "1")
    gone = retraction("2024-05-02", of=wrong)
    assert sales(wrong, gone, retraction("2024-05-03", of=gone)).order_count == 0


def test_a_merged_customer_s_orders_add_up() -> None:
    anna = [order("2024-05-01", "1", amount=money(10)), order("2024-05-02", "2", amount=money(5))]
    anne = [order("2024-05-03", "3", amount=money(1))]
    both = sales(*anna, *anne)
    assert both.order_count == 3
    assert list(both.order_totals) == [money(16)]
    assert both == sales(*anne, *anna)
