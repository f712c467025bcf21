"""What can go wrong with the store. An error's docstring says what it means."""

from libs.tasks import OrderlyEnd


class StoreError(Exception):
    """The event store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store can't be reached; whether the last append happened is not known."""


class StoreFull(StoreError):
    """The store's disk is full; nothing of the call was recorded."""


class QueueFull(StoreError):
    """More events wait to be appended than the queue may hold.

    Attributes:
        queued: How many events wait.
    """

    def __init__(self, queued: int) -> None:
        super().__init__(f"{queued} events wait to be appended, and no more may")
        self.queued = queued


class RequestRefused(StoreError):
    """The database refused one request of a group for its content; the others went through."""


class SealsStale(StoreError):
    """Somebody was erased since this was sealed; nothing of it was recorded. Seal it again."""


class NothingToErase(StoreError):
    """None of the identities has a data key: they were erased, or never existed."""


class ErasureRefused(StoreError):
    """The erasure can't be done as it was asked; nothing was erased."""


class SealBroken(StoreError):
    """A sealed value does not open with its key, or its clear fields were changed."""


class WrongMasterKey(StoreError):
    """The master key is not the one that wraps this store's data keys."""


class WrongIdentitySecret(StoreError):
    """The identity secret is not the one that names this store's identities."""


class AnotherStore(StoreError, OrderlyEnd):
    """Another store answers on the same NATS."""


class FeedForked(StoreError):
    """The feed does not end on this store's line: it is another store's, or damaged."""


class DamagedBatch(StoreError):
    """A message of the feed is not what the relay sent."""


class FeedUnavailable(StoreError):
    """The feed can't be reached or changed: NATS is away, or refuses."""
