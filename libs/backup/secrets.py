"""The two secrets without which a backup can't be used, and values that tell them from others."""

from dataclasses import dataclass, field

from libs.backup.errors import BackupError
from libs.eventstore.sealing import MasterKey
from libs.identity.keys import secret_check


@dataclass(frozen=True, slots=True)
class SecretsAtHand:
    """The secrets of the installation that is backed up or restored into.

    Attributes:
        place: Where they were found, such as `.touchline/secrets.json`.
        master_key: 32 bytes.
        identity_secret: 32 bytes.
    """

    place: str
    master_key: bytes = field(repr=False)
    identity_secret: bytes = field(repr=False)

    @property
    def key_check(self) -> bytes:
        """What the store remembers of its master key."""
        return MasterKey(self.master_key).check()

    @property
    def identity_check(self) -> bytes:
        """What the store remembers of its identity secret."""
        return secret_check(self.identity_secret)


def check_secrets(secrets: SecretsAtHand, key_check: bytes, identity_check: bytes) -> None:
    """Make sure that these secrets are those of a store; an empty check value is not compared.

    Raises:
        BackupError: the master key or the identity secret is another.
    """
    if key_check and key_check != secrets.key_check:
        raise BackupError(
            f"The master key in {secrets.place} is not the one that wraps this store's data keys: "
            "nothing would open. Put the secrets that belong to it there. Nothing was changed."
        )
    if identity_check and identity_check != secrets.identity_check:
        raise BackupError(
            f"The identity secret in {secrets.place} is not the one this store's identities are "
            "named by: nobody would be found. Put the secrets that belong to it there. Nothing was "
            "changed."
        )
