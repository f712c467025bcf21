"""What became of sending something, as every channel tells it."""

from dataclasses import dataclass


class SendError(Exception):
    """It did not work.

    Attributes:
        reason: Why, in words; no address and nothing of what was sent.
        permanent: Whether it never will.
        perhaps_arrived: Whether the other side may have it all the same.
    """

    def __init__(
        self, reason: str, *, permanent: bool = False, perhaps_arrived: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent
        self.perhaps_arrived = perhaps_arrived


@dataclass(frozen=True, slots=True)
class Message:
    """A notification as a channel sends it.

    Attributes:
        notification_id: Its name, the same for every attempt.
        kind: `alert` or `task`.
        title: The headline.
        text: The text; empty: the headline says it.
        reason: Why it matters now.
        values: The names and values that the rule computed, in its order.
        cause_event_id: The event it follows from.
        decided_at: When, as RFC 3339 in UTC.
    """

    notification_id: str
    kind: str
    title: str
    text: str
    reason: str
    values: tuple[tuple[str, str], ...]
    cause_event_id: str
    decided_at: str
