"""Forgets what a process remembers opened."""

from collections.abc import Callable, Iterable

from libs.eventstore.client import StoreClient
from libs.identity.keys import IdentityKeys


def forgetting(store: StoreClient, identity_keys: Iterable[IdentityKeys]) -> Callable[[], None]:
    """Return what makes a process forget the keys it fetched and the identities callers named.

    Args:
        store: Remembers keys.
        identity_keys: Of each tenant; they remember identities in plain words.
    """
    named = list(identity_keys)

    def forget() -> None:
        store.forget_keys()
        for one in named:
            one.forget()

    return forget
