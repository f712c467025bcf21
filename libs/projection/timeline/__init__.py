"""The timeline: each event under the identity that owns it, in every database that needs it.

`Timeline` folds it, MIGRATIONS (component `timeline`) make its tables, and `touches_of` reads what
happened to a customer.
"""

from libs.projection.timeline.folding import MIGRATIONS, Timeline
from libs.projection.timeline.touches import touches_of

__all__ = ["MIGRATIONS", "Timeline", "touches_of"]
