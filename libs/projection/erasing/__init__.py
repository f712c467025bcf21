"""What a service does when a customer is erased: what it deletes, forgets, and can show of it.

Keys are deleted in the store; see docs/erasure.md. A projection deletes what it made of events that
it opened, so that its rows are those of a fold that can't open them (`erasures_among`). A process
forgets what it remembers opened (`forgetting`). `calls` looks for what is left.
"""

from libs.projection.erasing.erasures import Erasure, erasures_among, is_erased
from libs.projection.erasing.forgetting import forgetting

__all__ = ["Erasure", "erasures_among", "forgetting", "is_erased"]
