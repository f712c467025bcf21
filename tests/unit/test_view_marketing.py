from services.profile.domain import Touch, show
from tests.given import (
    by_employee,
    call,
    campaign,
    community_post,
    consent,
    consents,
    contact,
    email,
    money,
    note,
    order,
    public_post,
    signal,
    traits,
    us,
    used,
)
from touchline.events.v1 import facts_pb2
from touchline.profile.v1 import views_pb2

NOW = us("2024-06-01")
EMAIL, PHONE, EVERY = (
    facts_pb2.CHANNEL_EMAIL,
    facts_pb2.CHANNEL_PHONE,
    facts_pb2.CHANNEL_UNSPECIFIED,
)
YES, NO = facts_pb2.CONSENT_STATUS_GRANTED, facts_pb2.CONSENT_STATUS_WITHDRAWN


def marketing(*touches: Touch) -> views_pb2.MarketingView:
    view = show(views_pb2.VIEW_KIND_MARKETING, touches, NOW, consents(*touches))
    assert isinstance(view, views_pb2.MarketingView)
    return view


def used_channels(*touches: Touch) -> list[tuple[str, int, int, int]]:
    return [
        (facts_pb2.Channel.Name(use.channel)[8:].lower(), use.inbound, use.outbound, use.total)
        for use in marketing(*touches).channels
    ]


def allowed(*touches: Touch) -> list[tuple[str, int, int, str]]:
    return [
        (one.purpose, one.channel, one.status, one.since.ToJsonString()[:10])
        for one in marketing(*touches).consents
    ]


def test_nothing_happened_and_nothing_shows() -> None:
    assert marketing() == views_pb2.MarketingView()


def test_every_kind_of_touch_counts_on_its_channel_the_most_used_first() -> None:
    assert used_channels(
        email("2024-05-01"),
        email("2024-05-02", "outbound"),
        campaign("2024-05-03", "spring", "sent"),
        campaign("2024-05-04", "spring", "opened"),
        community_post("2024-05-05"),
        community_post("2024-05-06", actor=by_employee()),
        public_post("2024-05-07"),
        public_post("2024-05-08", "peer"),
        public_post("2024-05-09", "peer"),
        used("2024-05-10", "app"),
    ) == [("email", 1, 2, 4), ("social", 1, 0, 3), ("community", 1, 1, 2), ("app", 0, 0, 1)]


def test_an_order_counts_once_where_it_was_placed() -> None:
    assert used_channels(
        order("2024-05-01", "1", "placed", channel=facts_pb2.CHANNEL_WEB),
        order("2024-05-02", "1", "shipped", channel=facts_pb2.CHANNEL_WEB),
        order("2024-05-03", "2", "placed"),
    ) == [("web", 1, 0, 1)]


def test_talk_within_the_company_and_private_talk_between_customers_use_no_channel() -> None:
    assert (
        used_channels(call("2024-05-01", "internal"), contact("2024-05-01", "chat", "peer")) == []
    )


def test_of_channels_used_alike_the_last_used_comes_first() -> None:
    view = marketing(
        email("2024-05-02"), call("2024-05-03"), email("2024-05-01"), call("2024-05-01")
    )
    assert [use.channel for use in view.channels] == [PHONE, EMAIL]
    assert view.channels[0].last_at.ToMicroseconds() == us("2024-05-03")


def test_a_campaign_shows_the_furthest_step_whatever_came_last() -> None:
    view = marketing(
        campaign("2024-05-03", "spring", "opened"),
        campaign("2024-05-02", "spring", "converted"),
        campaign("2024-05-01", "spring", "sent"),
        campaign("2024-05-04", "summer", "sent"),
    )
    assert [(one.campaign, one.furthest_action) for one in view.campaigns] == [
        ("summer", facts_pb2.CAMPAIGN_ACTION_SENT),
        ("spring", facts_pb2.CAMPAIGN_ACTION_CONVERTED),
    ]
    assert view.campaigns[1].last_at.ToMicroseconds() == us("2024-05-03")


def test_the_last_word_on_a_consent_counts_and_says_since_when() -> None:
    assert allowed(
        consent("2024-05-03", "news", "granted"),
        consent("2024-05-02", "news", "granted"),
        consent("2024-05-01", "news", "withdrawn"),
    ) == [("news", EVERY, YES, "2024-05-02")]


def test_at_the_same_time_the_withdrawal_wins() -> None:
    grant = consent("2024-05-01", "news", "granted", event_id=2)
    withdrawal = consent("2024-05-01", "news", "withdrawn", event_id=1)
    assert allowed(grant, withdrawal) == [("news", EVERY, NO, "2024-05-01")]


def test_a_grant_at_the_time_of_a_withdrawal_does_not_interrupt_an_older_withdrawal() -> None:
    assert allowed(
        consent("2024-04-01", "news", "withdrawn"),
        consent("2024-05-01", "news", "withdrawn"),
        consent("2024-05-01", "news", "granted"),
    ) == [("news", EVERY, NO, "2024-04-01")]


def test_a_withdrawal_for_every_channel_holds_on_each() -> None:
    assert (
        allowed(
            consent("2024-05-01", "news", "granted", "email"),
            consent("2024-05-02", "news", "withdrawn"),
            consent("2024-05-03", "news", "granted", "phone"),
        )
        == [
            ("news", EVERY, NO, "2024-05-02"),
            ("news", PHONE, YES, "2024-05-03"),
            ("news", EMAIL, NO, "2024-05-02"),
        ]
        or allowed() is None
    )


def test_a_grant_for_every_channel_does_not_undo_the_withdrawal_for_one() -> None:
    assert allowed(
        consent("2024-05-01", "news", "withdrawn", "email"),
        consent("2024-05-02", "news", "granted"),
    ) == [("news", EVERY, YES, "2024-05-02"), ("news", EMAIL, NO, "2024-05-01")]


def test_a_consent_of_one_purpose_says_nothing_of_another() -> None:
    assert allowed(
        consent("2024-05-01", "news", "granted"), consent("2024-05-02", "calls", "withdrawn")
    ) == [("calls", EVERY, NO, "2024-05-02"), ("news", EVERY, YES, "2024-05-01")]


def test_a_consent_keeps_the_proof_of_what_holds() -> None:
    (shown,) = marketing(
        consent("2024-05-01", "news", "withdrawn", proof="call 1"),
        consent("2024-05-02", "news", "granted", proof="form 7"),
        consent("2024-05-03", "news", "granted"),
    ).consents
    assert shown.proof == "form 7"
    (shown,) = marketing(
        consent("2024-05-01", "news", "granted", proof="form 7"),
        consent("2024-05-02", "news", "withdrawn"),
    ).consents
    assert shown.proof == ""


def test_a_merge_does_not_lose_an_opt_out() -> None:
    anna = [consent("2024-05-01", "news", "granted", "email")]
    anne = [consent("2024-05-02", "news", "withdrawn", "email")]
    assert allowed(*anna, *anne) == allowed(*anne, *anna) == [("news", EMAIL, NO, "2024-05-02")]


def test_products_show_how_often_and_how_long_the_most_used_first() -> None:
    view = marketing(
        used("2024-05-01", "app", 10),
        used("2024-05-03", "app", 20, feature="map"),
        used("2024-05-02", "bike", 500),
    )
    assert [(one.product, one.uses, one.duration_seconds) for one in view.products] == [
        ("app", 2, 30),
        ("bike", 1, 500),
    ]
    assert view.products[0].last_at.ToMicroseconds() == us("2024-05-03")


def test_what_was_said_bought_noted_or_learned_does_not_show() -> None:
    view = marketing(
        email("2024-05-01", title="My illness", text="It is this", intent="complaint"),
        order("2024-05-01", "order-77", "placed", amount=money(42)),
        note("2024-05-01", "Difficult"),
        signal("2024-05-01", "job_change", "left the bank"),
        traits("2024-05-01", {"religion": "private"}),
    )
    (use,) = view.channels
    assert view == views_pb2.MarketingView(channels=[use])
    assert (use.channel, use.inbound) == (EMAIL, 1)
