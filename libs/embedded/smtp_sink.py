"""A mail server that delivers nothing and keeps what it gets, for demonstrations and tests."""

import asyncio
import contextlib
import email.policy
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class SmtpSink:
    """What runs.

    Attributes:
        url: Where it takes mail, as `TOUCHLINE_SMTP_URL` wants it.
    """

    url: str
    _mails: "asyncio.Queue[EmailMessage]" = field(repr=False)

    async def next_mail(self, within: float) -> EmailMessage:
        """Returns the next mail that came in.

        Args:
            within: Seconds to wait for it.

        Raises:
            TimeoutError: None came.
        """
        async with asyncio.timeout(within):
            return await self._mails.get()


@contextlib.asynccontextmanager
async def run_smtp_sink() -> AsyncIterator[SmtpSink]:
    """Takes mail over SMTP on a free port of this machine until the block ends.

    It needs aiosmtpd, which `make install` puts in, and no service does.
    """
    from aiosmtpd.smtp import SMTP, Envelope, Session

    mails: asyncio.Queue[EmailMessage] = asyncio.Queue()

    class Keeping:
        async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
            parser = BytesParser(EmailMessage, policy=email.policy.default)
            mails.put_nowait(parser.parsebytes(envelope.original_content or b""))
            return "250 kept, and delivered to nobody"

    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Keeping(), enable_SMTPUTF8=True, hostname="localhost"), _HOST, 0
    )
    try:
        port = server.sockets[0].getsockname()[1]
        yield SmtpSink(f"smtp://{_HOST}:{port}", mails)
    finally:
        server.close()
