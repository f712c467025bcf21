"""The settings of the engagement service, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.identity.keys import IdentityKeys, tenant_secret
from libs.rpc.settings import read_tenants, required, secret
from libs.rpc.tenants import Tenants


@dataclass(frozen=True, slots=True)
class Config:
    """The settings.

    Attributes:
        database_url: Of the service's own database; the login may create tables.
        nats_url: Of the user that may ask the store and follow the feed.
        listen: host:port of gRPC.
        worker_listen: That of a process that does not serve; empty: it listens on nothing.
        tenants: Whose customers are scored.
        identity_keys: By tenant number: what names identities and streams.
        identity_secret: What those derive from, and the key of what waits in the outbox.
    """

    database_url: str
    nats_url: str
    listen: str
    worker_listen: str
    tenants: Tenants
    identity_keys: dict[int, IdentityKeys]
    identity_secret: bytes


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
        listen=environment.get("TOUCHLINE_LISTEN", "127.0.0.1:7430"),
        worker_listen=environment.get("TOUCHLINE_WORKER_LISTEN", ""),
        tenants=tenants,
        identity_keys={
            tenant.number: IdentityKeys(tenant_secret(identity_secret, tenant.name))
            for tenant in tenants.all
        },
        identity_secret=identity_secret,
    )
