"""Sends notifications by email."""

import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.policy import SMTPUTF8 as SMTPUTF8_POLICY
from email.utils import localtime
from typing import Final

import aiosmtplib
from email_validator import EmailNotValidError, ValidatedEmail, validate_email

from services.notification.deliveries.outcomes import Message, SendError

_COMMAND_SECONDS: Final = 10.0
_IDLE_CONNECTIONS: Final = 4
_REFUSED_FOR_GOOD: Final = 500


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where emails are handed in.

    Attributes:
        host: The mail server's.
        port: Its port.
        encrypted: Whether TLS begins with the connection; otherwise STARTTLS is used where offered.
        sender: Who emails come from.
        user: Empty: nobody logs in. With one, nothing is sent without TLS.
        password: The user's.
        seconds: How long the server may take for each answer.
    """

    host: str
    port: int
    encrypted: bool
    sender: str
    user: str = ""
    password: str = field(default="", repr=False)
    seconds: float = _COMMAND_SECONDS


class Mailer:
    """Sends emails; connections are used again until `rest` closes them.

    Args:
        settings: Of the mail server.
    """

    def __init__(self, settings: SmtpSettings) -> None:
        self.host, self.port = settings.host, settings.port
        self._settings = settings
        self._idle: list[aiosmtplib.SMTP] = []

    async def send(self, address: str, message: Message, *, to_customer: bool) -> None:
        """Hand an email in.

        Args:
            address: Where to.
            message: What to say.
            to_customer: Customers are told the text and why; employees also what the rule computed.

        Raises:
            SendError: the server is away, or did not take it.
        """
        recipient = _checked(address)
        client = await self._connected()
        try:
            await self._hand_in(client, recipient, message, to_customer)
        except BaseException:
            client.close()
            raise
        if len(self._idle) < _IDLE_CONNECTIONS:
            self._idle.append(client)
        else:
            client.close()

    async def rest(self) -> None:
        """Say good-bye on connections that nobody uses."""
        idle, self._idle = self._idle, []
        for client in idle:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit()
            client.close()

    async def _connected(self) -> aiosmtplib.SMTP:
        while self._idle:
            client = self._idle.pop()
            if client.is_connected:
                return client
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            use_tls=settings.encrypted,
            # A password never travels in the clear.
            start_tls=None if settings.encrypted or not settings.user else True,
            username=settings.user or None,
            password=settings.password or None,
            timeout=settings.seconds,
        )
        try:
            await client.connect()
        except aiosmtplib.SMTPAuthenticationError as error:
            raise SendError(f"the mail server refused our login ({error.code})") from error
        except aiosmtplib.SMTPTimeoutError as error:
            raise SendError("the mail server did not answer in time") from error
        except aiosmtplib.SMTPResponseException as error:
            raise SendError(f"the mail server turned us away ({error.code})") from error
        except aiosmtplib.SMTPNotSupported as error:
            raise SendError("the mail server offers no TLS, and we would have to log in") from error
        except (aiosmtplib.SMTPException, ssl.SSLError, OSError) as error:
            raise SendError("the mail server can't be reached") from error
        return client

    async def _hand_in(
        self,
        client: aiosmtplib.SMTP,
        recipient: ValidatedEmail,
        message: Message,
        to_customer: bool,
    ) -> None:
        international = recipient.ascii_email is None
        email = _email(self._settings.sender, recipient, message, to_customer=to_customer)
        policy = SMTPUTF8_POLICY if international else SMTP_POLICY
        options, encoding = (["SMTPUTF8"], "utf-8") if international else ([], "ascii")
        to = recipient.ascii_email or recipient.normalized
        perhaps_arrived = False
        try:
            if international and not client.supports_extension("smtputf8"):
                raise SendError("the mail server takes no international addresses", permanent=True)
            await client.mail(self._settings.sender, options=options, encoding=encoding)
            await client.rcpt(to, encoding=encoding)
            perhaps_arrived = True
            await client.data(email.as_bytes(policy=policy))
        except aiosmtplib.SMTPResponseException as error:
            raise SendError(
                f"the mail server refused {_what(error)} ({error.code})",
                permanent=error.code >= _REFUSED_FOR_GOOD,
            ) from error
        except aiosmtplib.SMTPTimeoutError as error:
            raise SendError(
                "the mail server did not answer in time", perhaps_arrived=perhaps_arrived
            ) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise SendError(
                "the mail server closed the connection", perhaps_arrived=perhaps_arrived
            ) from error


def message_id(notification_id: str, sender: str) -> str:
    """Return an email's Message-ID: the same for every attempt, so that a repeat can be seen."""
    return f"<{notification_id}.email@{sender.rpartition('@')[2]}>"


def _checked(address: str) -> ValidatedEmail:
    try:
        return validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        # Without its cause, which repeats the address.
        raise SendError("the recipient's email address is none", permanent=True) from None


def _what(error: aiosmtplib.SMTPResponseException) -> str:
    match error:
        case aiosmtplib.SMTPSenderRefused():
            return "the sender"
        case aiosmtplib.SMTPRecipientRefused():
            return "the recipient"
        case _:
            return "the email"


def _email(
    sender: str, recipient: ValidatedEmail, message: Message, *, to_customer: bool
) -> EmailMessage:
    email = EmailMessage(policy=SMTP_POLICY)
    email["From"] = Address(addr_spec=sender)
    domain = recipient.ascii_domain if recipient.ascii_email else recipient.domain
    email["To"] = Address(username=recipient.local_part, domain=domain)
    # A template may give anything, line breaks too.
    email["Subject"] = " ".join(message.title.split())
    email["Date"] = localtime()
    email["Message-ID"] = message_id(message.notification_id, sender)
    email["Auto-Submitted"] = "auto-generated"
    email.set_content(_text(message, to_customer=to_customer))
    return email


def _text(message: Message, *, to_customer: bool) -> str:
    parts = [message.text or message.title]
    if message.reason and message.reason not in parts:
        parts.append(message.reason)
    if message.values and not to_customer:
        parts.append("\n".join(f"{name}: {value}" for name, value in message.values))
    return "\n\n".join(parts) + "\n"
