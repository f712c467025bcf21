"""The settings that every service has which folds, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from libs.identity.keys import IdentityKeys, tenant_secret
from libs.rpc.settings import read_tenants, required, secret
from libs.rpc.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Reader:
    """A tenant whose events are read.

    Attributes:
        tenant: Its number.
        name: Its name.
        identity_keys: Names its identities and streams.
    """

    tenant: int
    name: str
    identity_keys: IdentityKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldingConfig:
    """The settings.

    Attributes:
        database_url: Of the service's own database; the login may create tables.
        nats_url: Of the user that may ask the store and follow the feed.
        listen: host:port of gRPC.
        worker_listen: That of a process that does not serve; empty: it listens on nothing.
        tenants: Whose customers' events are folded.
        readers: The same, by number.
        identity_secret: What their identity keys derive from, and the key of what waits in an
            outbox.
    """

    database_url: str = field(repr=False)
    nats_url: str = field(repr=False)
    listen: str
    worker_listen: str
    tenants: Tenants
    readers: dict[int, Reader]
    identity_secret: bytes = field(repr=False)

    @property
    def identity_keys(self) -> dict[int, IdentityKeys]:
        """By tenant number: what names identities and streams."""
        return {number: one.identity_keys for number, one in self.readers.items()}

    @classmethod
    def read(cls, environment: Mapping[str, str], listen: str, **own: Any) -> Self:
        """Return the settings.

        Args:
            environment: Where they stand.
            listen: Where the service listens unless that is set.
            own: The service's own settings.

        Raises:
            SettingError: One is missing or has no meaning; the message names it and says what it
                needs.
        """
        tenants = read_tenants(environment)
        identity_secret = secret(environment, "TOUCHLINE_IDENTITY_SECRET")
        keys = {
            one.number: IdentityKeys(tenant_secret(identity_secret, one.name))
            for one in tenants.all
        }
        return cls(
            database_url=required(environment, "TOUCHLINE_DATABASE_URL"),
            nats_url=required(environment, "TOUCHLINE_NATS_URL"),
            listen=environment.get("TOUCHLINE_LISTEN", listen),
            worker_listen=environment.get("TOUCHLINE_WORKER_LISTEN", ""),
            tenants=tenants,
            readers={
                one.number: Reader(one.number, one.name, keys[one.number]) for one in tenants.all
            },
            identity_secret=identity_secret,
            **own,
        )
