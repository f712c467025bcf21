"""The demo's story: six weeks of one customer, told by the systems that each saw a part of it."""

from datetime import datetime

from libs.cli.story import delight, letdown
from libs.cli.story.ines import CUSTOMER, EMAIL, PHONE
from libs.cli.story.telling import Teller
from touchline.events.v1 import event_pb2 as ev

__all__ = ["CUSTOMER", "EMAIL", "PHONE", "SEED", "Teller", "story"]

SEED = "ines"


def story(now: datetime, seed: str = SEED) -> list[ev.Event]:
    """Tells how Ines Falk buys a kiln, loves it, loses it, and is let down and picked up again.

    Her identities appear one by one and are linked step by step: phone, email, customer number,
    device, forum handle, social handle.

    Args:
        now: The present, with a time zone; the last event is some minutes old by then.
        seed: The same seed and clock give the same events.

    Returns:
        The events in the order they happened, every type of fact among them.
    """
    teller = Teller(seed, now)
    chapters = (
        delight.finds_it,
        delight.buys_it,
        delight.loves_it,
        delight.wants_more,
        letdown.loses_it,
        letdown.is_let_down,
        letdown.speaks_up,
        letdown.is_heard,
        letdown.waits,
    )
    return [event for chapter in chapters for event in chapter(teller)]
