"""The other sides of deliveries: a mail server and a receiver of webhooks, obedient or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session
from standardwebhooks import Webhook

_NEVER_SECONDS = 3600.0


@dataclass(slots=True)
class MailServer:
    """A mail server that a test rules.

    Attributes:
        url: For TOUCHLINE_SMTP_URL.
        mails: What arrived and was taken, in its order.
        arrived: The recipients of emails that came to the end of their text, taken or not.
        answers: The answers to the next emails, instead of taking them.
        refuses: Recipients that are turned down, with the answer.
        holds: Recipients whose emails are never answered.
        slow_seconds: How long it thinks about each email.
    """

    url: str = ""
    mails: list[EmailMessage] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)
    slow_seconds: float = 0.0

    async def handle_RCPT(  # noqa: N802 - aiosmtpd names it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Takes a recipient, or not."""
        del server, session, options
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd names it
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Takes an email, or not."""
        del server, session
        self.arrived += envelope.rcpt_tos
        held = self.holds.intersection(envelope.rcpt_tos)
        await asyncio.sleep(_NEVER_SECONDS if held else self.slow_seconds)
        if self.answers:
            return self.answers.pop(0)
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        mail = message_from_bytes(content, policy=modern)
        self.mails.append(mail)
        return "250 OK"

    def to(self, address: str) -> list[EmailMessage]:
        """The emails to an address."""
        return [mail for mail in self.mails if address in str(mail["To"])]


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """Runs a mail server on this loop until the block ends."""
    mails = MailServer()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(mails, enable_SMTPUTF8=True, hostname="localhost"), "127.0.0.1", 0
    )
    mails.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield mails
    finally:
        server.close()


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        """What it says."""
        return json.loads(self.body)

    def verified(self, secret: str) -> Any:
        """What it says; raises what the standard's library raises when the signature is wrong."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass(slots=True)
class Receiver:
    """A receiver of webhooks that a test rules.

    Attributes:
        url: Where it listens, without a path.
        hooks: What arrived, in its order.
        answers: The statuses of the next answers; afterwards 204.
        location: Where redirects lead.
        slow_seconds: How long it thinks about each.
    """

    url: str = ""
    hooks: list[Hook] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    location: str = ""
    slow_seconds: float = 0.0

    async def answer(self, request: web.Request) -> web.Response:
        """Takes a webhook, or not."""
        self.hooks.append(Hook(request.path, dict(request.headers), await request.read()))
        await asyncio.sleep(self.slow_seconds)
        status = self.answers.pop(0) if self.answers else 204
        headers = {"location": self.location} if self.location else {}
        return web.Response(status=status, headers=headers)

    def of(self, path: str) -> list[Hook]:
        """The webhooks to a path."""
        return [hook for hook in self.hooks if hook.path == path]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Runs a receiver on this loop until the block ends."""
    hooks = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", hooks.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    hooks.url = f"http://{host}:{port}"
    try:
        yield hooks
    finally:
        await runner.cleanup()
