"""The settings of the profile service, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.identity.keys import IdentityKeys, tenant_secret
from libs.rpc.settings import read_tenants, required, secret
from libs.rpc.tenants import Tenants
from services.profile.reading import Reader


@dataclass(frozen=True, slots=True)
class Config:
    """The settings.

    Attributes:
        database_url: Of the service's own database; the login may create tables.
        nats_url: Of the user that may ask the store and follow the feed.
        listen: host:port of gRPC.
        worker_listen: That of a process that does not serve; empty: it listens on nothing.
        tenants: Whose profiles are read.
        readers: By tenant number: what names identities.
    """

    database_url: str
    nats_url: str
    listen: str
    worker_listen: str
    tenants: Tenants
    readers: dict[int, Reader]

    @property
    def identity_keys(self) -> dict[int, IdentityKeys]:
        """By tenant number: what names identities and streams."""
        return {number: one.identity_keys for number, one in self.readers.items()}


def read_config(environment: Mapping[str, str]) -> Config:
    """Return the settings.

    Raises:
        SettingError: One is missing or has no meaning; the message names it and says what it needs.
    """
    tenants = read_tenants(environment)
    identity_secret = secret(environment, "TOUCHLINE_IDENTITY_SECRET")
    return Config(
        database_url=required(environment, "TOUCHLINE_DATABASE_URL"),
        nats_url=required(environment, "TOUCHLINE_NATS_URL"),
        listen=environment.get("TOUCHLINE_LISTEN", "127.0.0.1:7420"),
        worker_listen=environment.get("TOUCHLINE_WORKER_LISTEN", ""),
        tenants=tenants,
        readers={
            tenant.number: Reader(
                tenant.number,
                tenant.name,
                IdentityKeys(tenant_secret(identity_secret, tenant.name)),
            )
            for tenant in tenants.all
        },
    )
