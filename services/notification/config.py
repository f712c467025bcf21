"""The settings of the notification service, from its environment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from email_validator import EmailNotValidError, validate_email

from libs.projection.config import FoldingConfig
from libs.rpc.settings import SettingError, secret
from services.notification.calls import WebhookSettings
from services.notification.deliveries.attempting import Patience
from services.notification.deliveries.smtp import SmtpSettings

_SMTP_PORTS: Final = {"smtp": 25, "smtps": 465}
_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(FoldingConfig):
    """The settings, beside those of every service that folds.

    Attributes:
        smtp: Where emails are handed in; None: there are no emails.
        webhooks: What holds for every webhook.
        webhook_seconds: How long the request of a webhook may take.
        patience: How long and how often deliveries are tried.
    """

    smtp: SmtpSettings | None
    webhooks: WebhookSettings
    webhook_seconds: float
    patience: Patience


def read_config(environment: Mapping[str, str]) -> Config:
    """Return the settings.

    Raises:
        SettingError: One is missing or has no meaning; the message names it and says what it needs.
    """
    seconds = _seconds(environment, "TOUCHLINE_DELIVERY_TIMEOUT_SECONDS", 10.0)
    return Config.read(
        environment,
        "127.0.0.1:7440",
        smtp=_smtp(environment, seconds),
        webhooks=WebhookSettings(
            secret(environment, "TOUCHLINE_WEBHOOK_SECRET"), private=_private(environment)
        ),
        webhook_seconds=seconds,
        patience=Patience(_seconds(environment, "TOUCHLINE_DELIVERY_RETRY_SECONDS", 1.0)),
    )


def _smtp(environment: Mapping[str, str], seconds: float) -> SmtpSettings | None:
    text = environment.get("TOUCHLINE_SMTP_URL", "")
    if not text:
        return None
    wrong = SettingError(
        "TOUCHLINE_SMTP_URL must be smtp://[user:password@]host[:port], or smtps:// where TLS "
        "begins with the connection."
    )
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise wrong from None
    if not host or url.scheme not in _SMTP_PORTS or url.path not in ("", "/"):
        raise wrong
    return SmtpSettings(
        host=host,
        port=port or _SMTP_PORTS[url.scheme],
        encrypted=url.scheme == "smtps",
        sender=_sender(environment, host),
        user=unquote(url.username or ""),
        password=unquote(url.password or ""),
        seconds=seconds,
    )


def _sender(environment: Mapping[str, str], host: str) -> str:
    sender = environment.get("TOUCHLINE_MAIL_FROM", "")
    if not sender and host in _THIS_MACHINE:
        return "touchline@localhost"
    try:
        checked = validate_email(sender, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        checked = None
    if checked is None or checked.ascii_email is None:
        raise SettingError(
            "TOUCHLINE_MAIL_FROM must be the email address that mail comes from, in ASCII: "
            "TOUCHLINE_SMTP_URL is set, so notifications are sent by email."
        )
    return checked.ascii_email


def _private(environment: Mapping[str, str]) -> bool:
    value = environment.get("TOUCHLINE_WEBHOOK_PRIVATE", "")
    if value not in ("", "allow", "refuse"):
        raise SettingError("TOUCHLINE_WEBHOOK_PRIVATE must be `allow` or `refuse`, the default.")
    return value == "allow"


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        seconds = float(text) if text else default
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds <= 3600.0:
        raise SettingError(f"{name} must be a number of seconds above 0, at most 3600.")
    return seconds
