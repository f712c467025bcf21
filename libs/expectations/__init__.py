"""What a customer awaits, and how it stands: one fold for every service that tells of it.

tellings = [telling_of(event, event_id, occurred_at_us) for event in …]
standing(tellings)  ->  what is awaited, until when, whether it is open, kept, broken or withdrawn
"""

from libs.expectations.standing import PAST_US, Remark, Standing, in_words, standing
from libs.expectations.tellings import DECIDED_BY, SET, Telling, telling_of

__all__ = [
    "DECIDED_BY",
    "PAST_US",
    "SET",
    "Remark",
    "Standing",
    "Telling",
    "in_words",
    "standing",
    "telling_of",
]
