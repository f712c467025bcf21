from services.profile.domain import Touch, show
from tests.given import (
    by_employee,
    call,
    campaign,
    case,
    community_post,
    contact,
    email,
    note,
    public_post,
    retraction,
    us,
)
from touchline.events.v1 import facts_pb2
from touchline.profile.v1 import views_pb2

NOW = us("2024-06-01")


def service(*touches: Touch) -> views_pb2.ServiceView:
    view = show(views_pb2.VIEW_KIND_SERVICE, touches, NOW)
    assert isinstance(view, views_pb2.ServiceView)
    return view


def waiting(*touches: Touch) -> list[str]:
    """Texts of the unanswered messages."""
    return [one.text for one in service(*touches).unanswered_messages]


def test_nothing_happened_and_nothing_shows() -> None:
    assert service() == views_pb2.ServiceView()


def test_cases_show_until_they_are_solved_or_closed_the_longest_open_first() -> None:
    view = service(
        case("2024-05-03", "3", "open", subject="Late"),
        case("2024-05-01", "1", "pending", subject="Lost"),
        case("2024-05-02", "2", "open"),
        case("2024-05-04", "2", "solved"),
        case("2024-05-02", "4"),
        case("2024-05-04", "4", "closed"),
    )
    assert [(one.case_id, one.subject) for one in view.open_cases] == [("1", "Lost"), ("3", "Late")]


def test_a_change_of_a_case_leaves_what_it_does_not_say() -> None:
    (shown,) = service(
        case("2024-05-02", "1", priority="high"),
        case("2024-05-01", "1", "pending", subject="Lost", priority="low"),
    ).open_cases
    assert (shown.subject, shown.priority, shown.source) == ("Lost", "high", "desk")
    assert shown.status == facts_pb2.CASE_STATUS_PENDING
    assert shown.opened_at.ToMicroseconds() == us("2024-05-01")


def test_a_case_that_was_opened_again_is_open_since_its_first_day() -> None:
    (shown,) = service(
        case("2024-05-01", "1", "open"),
        case("2024-05-02", "1", "solved"),
        case("2024-05-03", "1", "open"),
    ).open_cases
    assert shown.opened_at.ToMicroseconds() == us("2024-05-01")


def test_messages_wait_until_a_later_answer_in_their_conversation() -> None:
    first = email("2024-05-01", text="first", conversation_id="t")
    answer = email("2024-05-02", "outbound", text="answer", conversation_id="t")
    second = email("2024-05-03", text="second", conversation_id="t")
    third = email("2024-05-04", text="third", conversation_id="t")
    assert waiting(first) == ["first"]
    assert waiting(first, answer) == []
    assert waiting(third, second, answer, first) == ["second", "third"]


def test_an_answer_on_another_channel_answers() -> None:
    asked = email("2024-05-01", text="asked", conversation_id="t")
    answered = contact("2024-05-02", "sms", "outbound", conversation_id="t")
    assert waiting(asked, answered) == []


def test_an_answer_elsewhere_does_not_answer() -> None:
    asked = email("2024-05-01", text="asked", conversation_id="t")
    other = email("2024-05-02", "outbound", conversation_id="u")
    assert waiting(asked, other, email("2024-05-03", "outbound")) == ["asked"]


def test_an_answer_may_name_the_message_instead_of_a_conversation() -> None:
    asked = email("2024-05-01", text="asked")
    answered = email("2024-05-02", "outbound", in_reply_to=asked.event.event_id)
    assert waiting(asked, answered) == []


def test_an_answer_that_names_the_message_answers_though_its_clock_is_behind() -> None:
    asked = email("2024-05-02", text="asked", conversation_id="t")
    answered = email("2024-05-01", "outbound", in_reply_to=asked.event.event_id.upper())
    assert waiting(asked, answered) == []


def test_who_calls_or_comes_was_answered_and_settles_what_was_asked_before() -> None:
    asked = email("2024-05-01", text="asked", conversation_id="t")
    assert waiting(call("2024-05-01", text="called"), contact("2024-05-01", "in_person")) == []
    assert waiting(asked, call("2024-05-02", conversation_id="t")) == []


def test_a_public_post_waits_for_an_answer_like_any_message() -> None:
    post = public_post("2024-05-01", text="Where is my bike?")
    assert waiting(post) == ["Where is my bike?"]
    answer = public_post("2024-05-02", "outbound", in_reply_to=post.event.event_id)
    assert waiting(post, answer) == []


def test_a_community_thread_waits_and_a_post_that_answers_a_peer_does_not() -> None:
    opened = community_post("2024-05-01", text="Does it fit?", conversation_id="c")
    to_a_peer = community_post("2024-05-02", text="Like mine", in_reply_to="someone-elses")
    assert waiting(opened, to_a_peer) == ["Does it fit?"]
    ours = community_post("2024-05-03", text="It does", conversation_id="c", actor=by_employee())
    assert waiting(opened, ours) == []


def test_a_campaign_mail_answers_nothing() -> None:
    asked = email("2024-05-01", text="asked", conversation_id="t")
    assert waiting(asked, campaign("2024-05-02", "spring", "sent")) == ["asked"]


def test_a_retracted_answer_did_not_answer() -> None:
    asked = email("2024-05-01", text="asked", conversation_id="t")
    answered = email("2024-05-02", "outbound", conversation_id="t")
    assert waiting(asked, answered, retraction("2024-05-03", of=answered)) == ["asked"]


def test_messages_that_answer_one_another_in_a_circle_are_one_thread() -> None:
    one = email("2024-05-01", event_id=1, text="one", in_reply_to=f"{0:08}-0000-0000-0000-{2:012}")
    two = email("2024-05-02", event_id=2, text="two", in_reply_to=one.event.event_id)
    assert waiting(one, two) == ["one", "two"]


def test_the_ten_last_contacts_on_any_channel_show_newest_first_with_what_was_said() -> None:
    touches = [
        call("2024-05-01", text="too long ago"),
        *(email(f"2024-05-02 {hour:02}:00", text="mail") for hour in range(7)),
        community_post("2024-05-03", title="Fork", text="It creaks"),
        public_post("2024-05-04", text="Hm"),
        call("2024-05-05", "internal", text="Stock?", actor=by_employee("agent-9")),
    ]
    shown = service(*touches).last_contacts
    assert len(shown) == 10
    assert [(one.title, one.text) for one in shown[:3]] == [
        ("", "Stock?"),
        ("", "Hm"),
        ("Fork", "It creaks"),
    ]
    assert shown[0].actor_reference == "agent-9"
    assert shown[2].visibility == facts_pb2.VISIBILITY_PUBLIC
    assert shown[3].visibility == facts_pb2.VISIBILITY_PRIVATE


def test_private_talk_between_customers_does_not_show_and_public_talk_does() -> None:
    private = contact("2024-05-01", "chat", "peer", text="between us")
    public = public_post("2024-05-02", "peer", text="for all")
    assert [one.text for one in service(private, public).last_contacts] == ["for all"]


def test_notes_are_no_contacts() -> None:
    assert service(note("2024-05-01", "Difficult")) == views_pb2.ServiceView()
