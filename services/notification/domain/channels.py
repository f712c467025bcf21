"""Which channels a notice uses, which it does not, and why."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from libs.consents import NOTHING_SAID, Said
from services.notification.domain.calendars import minute_of_day, zone_of
from services.notification.domain.consents import refused
from touchline.events.v1.decisions_pb2 import (
    CHANNEL_VERDICT_CHOSEN,
    CHANNEL_VERDICT_DEFERRED,
    CHANNEL_VERDICT_SKIPPED,
    CHANNEL_VERDICT_SUPPRESSED,
    NOTIFICATION_CHANNEL_EMAIL,
    NOTIFICATION_CHANNEL_INBOX,
    NOTIFICATION_CHANNEL_WEBHOOK,
    ConsideredChannel,
    NotificationChannel,
)
from touchline.notification.v1.notification_pb2 import Notice, QuietHours
from touchline.times import timestamp_of

MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Addressee:
    """What is known of whom a notice is for.

    Attributes:
        customer: The customer, not an employee or a team.
        known: Somebody said where the employee or the team is reached.
        email: There is an email address.
        webhook: There is a URL for webhooks.
        said: What was said of the customer's consents and preferences.
        identity_key: The customer's, under which the notice is.
    """

    customer: bool = False
    known: bool = False
    email: bool = False
    webhook: bool = False
    said: Said = NOTHING_SAID
    identity_key: bytes = b""


def considered(
    notice: Notice, addressee: Addressee, now_us: int, *, email_is_set_up: bool
) -> list[ConsideredChannel]:
    """Return each channel of a notice with its verdict and the reason.

    Args:
        notice: What the rule says.
        addressee: Whom it is for.
        now_us: The time, in microseconds since 1970.
        email_is_set_up: Whether this service can send emails at all.
    """
    wanted = notice.channels or [NOTIFICATION_CHANNEL_INBOX]
    until_us = quiet_until(notice.quiet_hours, now_us) if notice.HasField("quiet_hours") else now_us
    return [
        _considered(channel, notice, addressee, now_us, until_us, email_is_set_up)
        for channel in wanted
    ]


def quiet_until(quiet: QuietHours, now_us: int) -> int:
    """Return the first moment from now on that is not quiet, in microseconds since 1970.

    It is now, or a full minute. The clock on the wall decides, also on days on which it is changed.

    Args:
        quiet: Valid quiet hours.
        now_us: The time, in microseconds since 1970.
    """
    zone = zone_of(quiet.time_zone)
    start, end = minute_of_day(getattr(quiet, "from")), minute_of_day(quiet.to)

    def is_quiet(at_us: int) -> bool:
        at = datetime.fromtimestamp(at_us // 1_000_000, zone)
        minute = 60 * at.hour + at.minute
        return start <= minute < end if start < end else not end <= minute < start

    at_us = now_us
    while is_quiet(at_us):
        at_us = (at_us // MINUTE_US + 1) * MINUTE_US
    return at_us


def _considered(
    channel: NotificationChannel.ValueType,
    notice: Notice,
    addressee: Addressee,
    now_us: int,
    until_us: int,
    email_is_set_up: bool,
) -> ConsideredChannel:
    if told := refused(addressee.said, addressee.identity_key, notice.purpose, channel):
        return ConsideredChannel(channel=channel, verdict=CHANNEL_VERDICT_SUPPRESSED, reason=told)
    if missing := _missing(channel, addressee, email_is_set_up):
        return ConsideredChannel(channel=channel, verdict=CHANNEL_VERDICT_SKIPPED, reason=missing)
    if channel != NOTIFICATION_CHANNEL_INBOX and until_us > now_us:
        quiet = notice.quiet_hours
        end = datetime.fromtimestamp(until_us // 1_000_000, UTC)
        told = (
            f"quiet hours from {getattr(quiet, 'from')} to {quiet.to} in {quiet.time_zone}: "
            f"waits until {end:%Y-%m-%d %H:%M} UTC"
        )
        return ConsideredChannel(
            channel=channel,
            verdict=CHANNEL_VERDICT_DEFERRED,
            reason=told,
            not_before=timestamp_of(until_us),
        )
    return ConsideredChannel(
        channel=channel, verdict=CHANNEL_VERDICT_CHOSEN, reason=_chosen(channel, notice)
    )


def _missing(
    channel: NotificationChannel.ValueType, addressee: Addressee, email_is_set_up: bool
) -> str:
    """Return why a channel can't be used; empty when it can."""
    if channel == NOTIFICATION_CHANNEL_INBOX:
        return ""
    if channel == NOTIFICATION_CHANNEL_WEBHOOK and addressee.customer:
        return "customers have no webhooks"
    if channel == NOTIFICATION_CHANNEL_EMAIL and not email_is_set_up:
        return "this installation sends no emails: TOUCHLINE_SMTP_URL is not set"
    if not addressee.customer and not addressee.known:
        return "nobody said where this recipient is reached: see PutRecipient"
    if channel == NOTIFICATION_CHANNEL_EMAIL and not addressee.email:
        whose = "the customer's" if addressee.customer else "the recipient's"
        return f"{whose} email address is not known"
    if channel == NOTIFICATION_CHANNEL_WEBHOOK and not addressee.webhook:
        return "the recipient has no URL for webhooks"
    return ""


def _chosen(channel: NotificationChannel.ValueType, notice: Notice) -> str:
    if channel == NOTIFICATION_CHANNEL_INBOX:
        why = "every recipient has an inbox"
    else:
        why = "the address is known"
    return f"{why}, and the customer allows {notice.purpose}" if notice.purpose else why
