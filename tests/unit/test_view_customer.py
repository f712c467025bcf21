from services.profile.domain import ATTRIBUTES_READ, Touch, attributes, show
from tests.given import (
    by_employee,
    call,
    case,
    community_post,
    consent,
    consents,
    contact,
    email,
    money,
    note,
    order,
    public_post,
    retraction,
    signal,
    traits,
    us,
)
from touchline.events.v1 import event_pb2, facts_pb2
from touchline.profile.v1 import views_pb2

NOW = us("2024-06-01")


def customer(*touches: Touch) -> views_pb2.CustomerView:
    view = show(views_pb2.VIEW_KIND_CUSTOMER, touches, NOW, consents(*touches))
    assert isinstance(view, views_pb2.CustomerView)
    return view


def facts(*touches: Touch) -> list[tuple[str, str, str]]:
    return [
        (one.name, one.value, one.since.ToJsonString()[:10])
        for one in customer(*touches).known_facts
    ]


def test_nothing_happened_and_nothing_shows() -> None:
    assert customer() == views_pb2.CustomerView()


def test_the_last_observation_of_each_attribute_counts() -> None:
    assert facts(
        traits("2024-05-02", {"city": "Graz"}),
        traits("2024-05-01", {"city": "Wien", "size": "M"}),
    ) == [("city", "Graz", "2024-05-02"), ("size", "M", "2024-05-01")]


def test_an_attribute_is_known_since_it_took_its_value() -> None:
    assert facts(
        traits("2024-05-01", {"city": "Graz"}),
        traits("2024-05-02", {"city": "Wien"}),
        traits("2024-05-03", {"city": "Wien"}),
    ) == [("city", "Wien", "2024-05-02")]


def test_an_empty_value_removes_an_attribute_whatever_arrives_later() -> None:
    gone = traits("2024-05-02", {"city": ""})
    old = traits("2024-05-01", {"city": "Wien"})
    assert facts(gone, old) == []
    assert facts(gone, old, traits("2024-05-03", {"city": "Graz"})) == [
        ("city", "Graz", "2024-05-03")
    ]


def test_a_retracted_observation_gives_way_to_the_one_before() -> None:
    wrong = traits("2024-05-02", {"city": "Graz"})
    right = traits("2024-05-01", {"city": "Wien"})
    assert facts(right, wrong, retraction("2024-05-03", of=wrong)) == [
        ("city", "Wien", "2024-05-01")
    ]


def test_an_attribute_says_which_event_of_which_system_told_it_last() -> None:
    first = traits("2024-05-01", {"city": "Wien"}, source="crm")
    again = traits("2024-05-02", {"city": "Wien"}, source="shop")
    (shown,) = attributes([again, first, again])
    assert (shown.name, shown.value) == ("city", "Wien")
    assert (shown.event_id, shown.source) == (again.event.event_id, "shop")
    assert shown.occurred_at.ToMicroseconds() == us("2024-05-02")


def test_attributes_are_folded_from_observations_and_retractions() -> None:
    assert {
        event_pb2.EVENT_TYPE_TRAITS_OBSERVED,
        event_pb2.EVENT_TYPE_EVENT_RETRACTED,
    } == ATTRIBUTES_READ


def test_contacts_in_both_directions_show_with_what_was_said_newest_first() -> None:
    view = customer(
        email("2024-05-01", title="Question", text="Where?", intent="question"),
        call("2024-05-02", "outbound", text="There", actor=by_employee("agent-7")),
        community_post("2024-05-03", title="Fork", text="It creaks"),
    )
    assert [(one.title, one.text, one.intent) for one in view.contacts] == [
        ("Fork", "It creaks", ""),
        ("", "There", ""),
        ("Question", "Where?", "question"),
    ]
    assert view.contacts[1].actor_reference == ""


def test_the_twenty_latest_contacts_show() -> None:
    view = customer(*(email(f"2024-05-{day:02}", text=str(day)) for day in range(1, 26)))
    assert [one.text for one in view.contacts] == [str(day) for day in range(25, 5, -1)]


def test_a_reply_of_the_company_in_the_community_is_a_contact_from_it() -> None:
    (shown,) = customer(community_post("2024-05-01", actor=by_employee())).contacts
    assert shown.direction == facts_pb2.DIRECTION_OUTBOUND


def test_what_colleagues_and_peers_say_among_themselves_does_not_show() -> None:
    assert (
        customer(
            note("2024-05-01", "Difficult"),
            signal("2024-05-01", "job_change"),
            case("2024-05-01", "1", "open", subject="Nagging again"),
            call("2024-05-01", "internal", text="That one again"),
            contact("2024-05-01", "chat", "peer", text="between us"),
            public_post("2024-05-01", "peer", text="for all"),
        )
        == views_pb2.CustomerView()
    )


def test_orders_and_consents_show() -> None:
    view = customer(
        order("2024-05-01", "1", "placed", amount=money(3)),
        consent("2024-05-01", "news", "granted", proof="form 7"),
    )
    assert [(one.order_id, one.amount) for one in view.orders] == [("1", money(3))]
    assert [(one.purpose, one.proof) for one in view.consents] == [("news", "form 7")]


def test_an_event_whose_key_was_erased_shows_nothing() -> None:
    erased = email("2024-05-01", text="gone")
    erased.event.ClearField("interaction")
    assert customer(erased) == views_pb2.CustomerView()
