"""What carries notifications: a mail server, and the receivers of webhooks."""

from yarl import URL

from services.notification.deliveries.checking import Address
from services.notification.deliveries.claims import Claim
from services.notification.deliveries.outcomes import Message, SendError
from services.notification.deliveries.smtp import Mailer
from services.notification.deliveries.webhooks import Webhooks
from touchline.events.v1.decisions_pb2 import NOTIFICATION_CHANNEL_EMAIL, NotificationChannel


class Carriers:
    """Sends over the channel that a claim names.

    Args:
        mailer: Sends emails; None when no mail server is set.
        webhooks: Sends webhooks.
    """

    def __init__(self, mailer: Mailer | None, webhooks: Webhooks) -> None:
        self._mailer = mailer
        self._webhooks = webhooks

    async def send(self, claim: Claim, address: Address, message: Message) -> None:
        """Send a notification.

        Raises:
            SendError: it did not work.
        """
        if claim.channel != NOTIFICATION_CHANNEL_EMAIL:
            await self._webhooks.send(address.where, address.secret, message)
        elif self._mailer is None:
            raise SendError("no mail server is set: TOUCHLINE_SMTP_URL", permanent=True)
        else:
            await self._mailer.send(address.where, message, to_customer=address.customer)

    def host_of(self, claim: Claim, address: Address) -> str:
        """Return the host that is asked: a mail server, or a webhook's; never who is reached."""
        if claim.channel != NOTIFICATION_CHANNEL_EMAIL:
            return URL(address.where).host or ""
        return self._mailer.host if self._mailer is not None else ""

    async def rest(self, channel: NotificationChannel.ValueType) -> None:
        """Close connections that would otherwise be kept for nobody."""
        if channel == NOTIFICATION_CHANNEL_EMAIL and self._mailer is not None:
            await self._mailer.rest()
