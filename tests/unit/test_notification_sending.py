"""What deliveries are made of: pauses, addresses, consents, recipients and settings."""

from __future__ import annotations

from typing import Any

import pytest

from libs.consents import Said, erased_consent
from libs.rpc.settings import SettingError
from services.notification.calls import WebhookSettings
from services.notification.config import read_config
from services.notification.deliveries.addresses import is_public
from services.notification.deliveries.attempting import Patience
from services.notification.deliveries.recipients import violations, webhook_secret
from services.notification.domain.consents import refused
from services.profile.domain import Touch
from tests.given import KEY, consent, touch, words
from touchline.events.v1.decisions_pb2 import (
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_INBOX,
)
from touchline.events.v1.facts_pb2 import (
    CHANNEL_EMAIL,
    PREFERENCE_STATUS_AVOIDED,
    PREFERENCE_STATUS_PREFERRED,
    PreferenceChanged,
)
from touchline.notification.v1.notification_pb2 import Recipient

ENVIRONMENT = {
    "TOUCHLINE_DATABASE_URL": "postgresql://u:p@127.0.0.1/n",
    "TOUCHLINE_NATS_URL": "nats://127.0.0.1",
    "TOUCHLINE_IDENTITY_SECRET": "1d" * 32,
    "TOUCHLINE_WEBHOOK_SECRET": "c0" * 32,
}
OPEN = WebhookSettings(b"\1" * 32, private=True)
CLOSED = WebhookSettings(b"\1" * 32)
EMAIL, INBOX = NOTIFICATION_CHANNEL_EMAIL, NOTIFICATION_CHANNEL_INBOX


def avoids(purpose: str) -> PreferenceChanged:
    """Who would rather not get emails."""
    return PreferenceChanged(
        purpose=purpose, channel=CHANNEL_EMAIL, status=PREFERENCE_STATUS_AVOIDED
    )


def test_pauses_grow_are_drawn_by_lot_and_end_at_an_hour() -> None:
    patience = Patience()
    for tries in range(1, 30):
        longest = min(3600.0, 4.0 ** (tries - 1)) * 1e6
        drawn = [patience.pause_us(tries) for _ in range(200)]
        assert 0 <= min(drawn) <= max(drawn) <= longest
        assert max(drawn) - min(drawn) > longest / 2


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "224.0.0.1", "240.0.0.1"),
        *("::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:0:4136:e378::f5ff:fffe"),
    ],
)
def test_addresses_that_lead_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_lead_outside_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("changes", "email", "inbox"),
    [
        ([], False, False),
        ([("03-01", "granted", "")], True, True),
        ([("03-01", "granted", "email")], True, False),
        ([("03-01", "granted", ""), ("03-02", "withdrawn", "")], False, False),
        ([("03-01", "granted", ""), ("03-02", "withdrawn", "email")], False, True),
        ([("03-01", "withdrawn", ""), ("03-02", "granted", "email")], True, False),
        ([("03-01", "granted", ""), ("03-01", "withdrawn", "")], False, False),
        ([("03-02", "withdrawn", ""), ("03-01", "granted", "")], False, False),
        ([("03-01", "withdrawn", "email"), ("03-02", "granted", "")], False, True),
    ],
    ids=[
        *("nothing said", "everywhere", "on one", "taken back", "taken back on one"),
        *("given again on one", "at the same time", "told late", "the stricter one"),
    ],
)
def test_the_last_word_on_a_channel_counts_and_in_doubt_the_stricter(
    changes: list[tuple[str, str, str]], email: bool, inbox: bool
) -> None:
    history = words(
        *(
            consent(f"2026-{day} 12:00", "alerts", status, channel or "unspecified")
            for day, status, channel in changes
        )
    )
    for told in (history, history[::-1]):
        said = Said((KEY,), tuple(told))
        assert (refused(said, KEY, "alerts", NOTIFICATION_CHANNEL_EMAIL) == "") is email
        assert (refused(said, KEY, "alerts", NOTIFICATION_CHANNEL_INBOX) == "") is inbox
        assert refused(said, KEY, "newsletter", NOTIFICATION_CHANNEL_EMAIL)
        assert not refused(said, KEY, "", NOTIFICATION_CHANNEL_EMAIL)


@pytest.mark.parametrize(
    ("said", "purpose", "told"),
    [
        ([], "alerts", "the customer has never allowed alerts"),
        (
            [consent("2026-03-01 12:00", "alerts", "withdrawn")],
            "alerts",
            "the customer has not allowed alerts since 2026-03-01 12:00 UTC",
        ),
        (
            [
                consent("2026-03-01 12:00", "alerts", "granted"),
                touch("2026-03-02", preference_changed=avoids("alerts")),
            ],
            "alerts",
            "the customer has preferred not to hear of alerts by email since 2026-03-02 00:00 UTC",
        ),
        (
            [touch("2026-03-02", preference_changed=avoids(""))],
            "",
            "the customer has preferred not to be told anything by email since 2026-03-02 00:00 "
            "UTC",
        ),
    ],
    ids=["never", "withdrawn", "avoided for a purpose", "avoided for everything"],
)
def test_the_reason_says_since_when_and_whether_another_identity_said_it(
    said: list[Touch], purpose: str, told: str
) -> None:
    own, other = words(*said), words(*said, key=b"other")
    keys = (KEY, b"other")
    assert refused(Said(keys, tuple(own)), KEY, purpose, EMAIL) == told
    elsewhere = f"{told}, under another identity" if "since" in told else told
    assert refused(Said(keys, tuple(other)), KEY, purpose, EMAIL) == elsewhere


def test_what_was_said_of_a_purpose_and_erased_may_have_been_a_withdrawal() -> None:
    granted = words(consent("2026-03-01 12:00", "alerts", "granted"))
    gone = [erased_consent(bytes(16), (KEY,), granted[0].occurred_at_us + 1, 0)]
    told = refused(Said((KEY,), (*granted, *gone)), KEY, "alerts", EMAIL)
    assert told == "what the customer said of alerts may have been erased"
    assert refused(Said((KEY,), tuple(gone)), KEY, "alerts", EMAIL).endswith("never allowed alerts")


def test_an_avoided_channel_leaves_the_inbox_alone_and_a_preferred_one_is_used() -> None:
    avoided = words(touch("2026-03-02", preference_changed=avoids("")))
    assert refused(Said((KEY,), tuple(avoided)), KEY, "", INBOX) == ""
    preferred = words(
        touch(
            "2026-03-02",
            preference_changed=PreferenceChanged(
                channel=CHANNEL_EMAIL, status=PREFERENCE_STATUS_PREFERRED
            ),
        )
    )
    assert refused(Said((KEY,), tuple(preferred)), KEY, "", EMAIL) == ""


def test_nothing_is_sent_to_whom_more_was_said_of_than_is_looked_through() -> None:
    granted = words(consent("2026-03-01 12:00", "alerts", "granted"))
    assert not refused(Said((KEY,), tuple(granted)), KEY, "alerts", EMAIL)
    assert "more" in refused(Said((KEY,), tuple(granted), whole=False), KEY, "alerts", EMAIL)


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("https://hooks.example.com/touchline?team=fraud", CLOSED),
        ("https://8.8.8.8:8443/", CLOSED),
        ("http://127.0.0.1:9000/in", OPEN),
        ("http://localhost:9000", OPEN),
        ("https://10.0.0.8/in", OPEN),
    ],
)
def test_webhooks_may_go_where_the_settings_allow(url: str, settings: WebhookSettings) -> None:
    assert not list(violations(Recipient(reference="a", webhook_url=url), settings))


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://hooks.example.com/in", CLOSED),
        ("http://hooks.example.com/in", OPEN),
        ("http://127.0.0.1/in", CLOSED),
        ("https://127.0.0.1/in", CLOSED),
        ("https://localhost/in", CLOSED),
        ("https://api.localhost/in", CLOSED),
        ("https://[::ffff:10.0.0.1]/in", CLOSED),
        ("https://user@example.com/", CLOSED),
        ("https://example.com/#part", CLOSED),
        ("https://example.com:99999/", CLOSED),
        ("https://exa mple.com/", CLOSED),
        ("https://example.com/\u0007", CLOSED),
        ("https://example.com/" + "x" * 2048, CLOSED),
        ("example.com", CLOSED),
    ],
    ids=range(14),
)
def test_webhooks_may_go_nowhere_else(url: str, settings: WebhookSettings) -> None:
    recipient = Recipient(reference="a", webhook_url=url)
    ((field, description),) = violations(recipient, settings)
    assert field == "recipient.webhook_url"
    assert "example" not in description


def test_each_recipient_has_a_secret_of_its_own() -> None:
    secrets = {
        webhook_secret(settings, tenant, reference)
        for settings in (OPEN, WebhookSettings(b"\2" * 32))
        for tenant in ("default", "acme")
        for reference in ("team:fraud", "agent-7")
    }
    assert len(secrets) == 8
    assert all(secret.startswith("whsec_") for secret in secrets)


def test_without_a_mail_server_there_is_no_email() -> None:
    assert read_config(ENVIRONMENT).smtp is None


def test_a_mail_server_is_read_from_its_url() -> None:
    url = {"TOUCHLINE_SMTP_URL": "smtps://us%40er:p%3Aw@mail.example.com"}
    smtp = read_config(ENVIRONMENT | url | {"TOUCHLINE_MAIL_FROM": "t@example.com"}).smtp
    assert smtp is not None
    assert (smtp.host, smtp.port, smtp.encrypted) == ("mail.example.com", 465, True)
    assert (smtp.user, smtp.password, smtp.sender) == ("us@er", "p:w", "t@example.com")
    assert "p:w" not in repr(smtp)
    local = read_config(ENVIRONMENT | {"TOUCHLINE_SMTP_URL": "smtp://127.0.0.1:2525"}).smtp
    assert local is not None
    assert local.sender == "touchline@localhost"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("TOUCHLINE_SMTP_URL", {"TOUCHLINE_SMTP_URL": "http://mail.example.com"}),
        ("TOUCHLINE_SMTP_URL", {"TOUCHLINE_SMTP_URL": "smtp://:25"}),
        ("TOUCHLINE_SMTP_URL", {"TOUCHLINE_SMTP_URL": "smtp://h:none"}),
        ("TOUCHLINE_MAIL_FROM", {"TOUCHLINE_SMTP_URL": "smtp://mail.example.com"}),
        ("TOUCHLINE_WEBHOOK_SECRET", {"TOUCHLINE_WEBHOOK_SECRET": "c0"}),
        ("TOUCHLINE_WEBHOOK_PRIVATE", {"TOUCHLINE_WEBHOOK_PRIVATE": "yes"}),
        ("TOUCHLINE_DELIVERY_RETRY_SECONDS", {"TOUCHLINE_DELIVERY_RETRY_SECONDS": "0"}),
        ("TOUCHLINE_DELIVERY_TIMEOUT_SECONDS", {"TOUCHLINE_DELIVERY_TIMEOUT_SECONDS": "nan"}),
    ],
    ids=range(8),
)
def test_settings_that_make_no_sense_are_named(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=name):
        read_config(ENVIRONMENT | changes)
