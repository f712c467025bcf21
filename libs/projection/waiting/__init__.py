"""Read-your-writes: a read waits until the projections it uses have folded what it must include.

And it learns which of them lack events of the customer whom it is about, and the process, when it
has to forget what it remembers of somebody who was erased.
"""

from libs.projection.waiting.behind import Behind, Building, Paused, waiting_errors
from libs.projection.waiting.checkpoints import Checkpoints, follow_checkpoints

__all__ = [
    "Behind",
    "Building",
    "Checkpoints",
    "Paused",
    "follow_checkpoints",
    "waiting_errors",
]
