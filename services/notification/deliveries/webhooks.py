"""Sends notifications as signed HTTP requests (Standard Webhooks)."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook

from libs.telemetry import context
from services.notification.deliveries.addresses import is_public
from services.notification.deliveries.outcomes import Message, SendError

_SECONDS: Final = 10.0
_MAX_ANSWER_BYTES: Final = 64 * 1024
_CONNECTIONS: Final = 32
_OK: Final = range(200, 300)
_REDIRECTS: Final = range(300, 400)
_REFUSALS: Final = range(400, 500)
_LATER: Final = (408, 429)


class PrivateAddress(OSError):
    """A webhook leads to an address that is not everybody's."""


class Webhooks:
    """Sends webhooks over connections that are used again.

    Args:
        session: Of `webhook_session`.
        seconds: How long a request may take in all.
    """

    def __init__(self, session: aiohttp.ClientSession, seconds: float = _SECONDS) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=seconds / 2)

    async def send(self, url: str, secret: str, message: Message) -> None:
        """Send a webhook.

        Args:
            url: Where to.
            secret: Signs it, `whsec_…`.
            message: What to say.

        Raises:
            SendError: nobody took it.
        """
        body = json.dumps(_content(message), ensure_ascii=False, separators=(",", ":"))
        headers = _headers(secret, message.notification_id, body)
        try:
            async with self._session.post(
                url,
                data=body.encode(),
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout,
            ) as answer:
                _check(answer.status)
                # Read, so that the connection can be used again: a little, and nobody looks at it.
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    await answer.content.read(_MAX_ANSWER_BYTES)
        except TimeoutError as error:
            late = "the receiver did not answer in time"
            # Nothing was sent yet where not even a connection was made.
            unmade = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise SendError(late, perhaps_arrived=not unmade) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise SendError("the receiver's certificate is not valid") from error
        except aiohttp.ClientConnectorError as error:
            raise _unreached(error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise SendError("the receiver closed the connection", perhaps_arrived=True) from error


@asynccontextmanager
async def webhook_session(
    *, private: bool, resolver: AbstractResolver | None = None
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open connections for webhooks until the block ends.

    Args:
        private: Whether they may go to private addresses. What counts is the address that is
            connected to, whatever a name led to when it was looked at before.
        resolver: Finds the addresses of names. Default: the system's.
    """
    async with aiohttp.ClientSession(
        connector=_connector(private, resolver),
        # What a receiver sets is not kept, and no proxy of the environment stands between.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    ) as session:
        yield session


def _connector(private: bool, resolver: AbstractResolver | None) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(
        limit=_CONNECTIONS,
        resolver=resolver,
        use_dns_cache=False,
        socket_factory=None if private else _public_socket,
    )


def _public_socket(address: Any) -> socket.socket:
    """Return a socket for an address that is about to be connected to.

    Raises:
        PrivateAddress: it is not everybody's.
    """
    family, kind, protocol, _, where = address
    if not is_public(where[0]):
        raise PrivateAddress("it is no public address")
    return socket.socket(family, kind, protocol)


def _content(message: Message) -> dict[str, object]:
    return {
        "notification_id": message.notification_id,
        "kind": message.kind,
        "title": message.title,
        "text": message.text,
        "reason": message.reason,
        "values": dict(message.values),
        "cause_event_id": message.cause_event_id,
        "decided_at": message.decided_at,
    }


def _headers(secret: str, notification_id: str, body: str) -> dict[str, str]:
    now = datetime.now(UTC)
    headers = {
        "content-type": "application/json; charset=utf-8",
        "user-agent": "touchline-notification",
        # The same for every attempt: receivers tell repeats by it.
        "webhook-id": notification_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(notification_id, now, body),
    }
    traceparent = context.current_traceparent()
    return {**headers, context.TRACEPARENT: traceparent} if traceparent else headers


def _check(status: int) -> None:
    """Look at an answer's status.

    Raises:
        SendError: it is no 2xx.
    """
    if status in _OK:
        return
    if status in _REDIRECTS:
        raise SendError(
            f"the receiver redirects ({status}), and redirects are not followed", permanent=True
        )
    permanent = status in _REFUSALS and status not in _LATER
    raise SendError(f"the receiver answered {status}", permanent=permanent)


def _unreached(error: aiohttp.ClientConnectorError) -> SendError:
    if isinstance(error.os_error, PrivateAddress):
        return SendError(
            "the webhook leads to a private address, and the settings refuse those", permanent=True
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return SendError("the receiver's name is not known")
    return SendError("the receiver can't be reached")
