"""The settings of the ingestion service, from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from libs.eventstore.records import SealedTenant
from libs.eventstore.sealing import MasterKey
from libs.identity.keys import IdentityKeys, secret_check, tenant_secret
from libs.rpc.settings import SettingError, read_tenants, required, secret
from libs.rpc.tenants import Tenants
from services.ingestion.recording import TenantSecrets


@dataclass(frozen=True, slots=True)
class Config:
    """The settings.

    Attributes:
        database_url: Of the store's database; the login may create tables and roles.
        nats_url: Of the user that may write the feed.
        listen: host:port of gRPC.
        tenants: Whose events are taken.
        secrets: By tenant number: what names identities and keys hashes.
        identity_check: Tells the secret they derive from from another.
        master_key: Wraps the data keys.
        feed_replicas: On how many servers of a NATS cluster the feed is kept.
    """

    database_url: str = field(repr=False)
    nats_url: str = field(repr=False)
    listen: str
    tenants: Tenants
    secrets: dict[int, TenantSecrets]
    identity_check: bytes
    master_key: MasterKey
    feed_replicas: int

    @property
    def identity_keys(self) -> dict[int, IdentityKeys]:
        """By tenant number: what names identities and streams."""
        return {number: one.identity_keys for number, one in self.secrets.items()}


def read_config(environment: Mapping[str, str]) -> Config:
    """Return the settings.

    Raises:
        SettingError: one is missing or has no meaning; the message names it and says what it needs.
    """
    tenants = read_tenants(environment)
    identity_secret = secret(environment, "TOUCHLINE_IDENTITY_SECRET")
    secrets = {}
    for tenant in tenants.all:
        own = tenant_secret(identity_secret, tenant.name)
        secrets[tenant.number] = TenantSecrets(
            tenant, IdentityKeys(own), SealedTenant(tenant.number, own)
        )
    return Config(
        database_url=required(environment, "TOUCHLINE_DATABASE_URL"),
        nats_url=required(environment, "TOUCHLINE_NATS_URL"),
        listen=environment.get("TOUCHLINE_LISTEN", "127.0.0.1:7410"),
        tenants=tenants,
        secrets=secrets,
        identity_check=secret_check(identity_secret),
        master_key=MasterKey(secret(environment, "TOUCHLINE_MASTER_KEY")),
        feed_replicas=_feed_replicas(environment),
    )


def _feed_replicas(environment: Mapping[str, str]) -> int:
    value = environment.get("TOUCHLINE_FEED_REPLICAS", "1")
    if value not in ("1", "3", "5"):
        raise SettingError(
            f"TOUCHLINE_FEED_REPLICAS must be 1, 3 or 5, and no more than NATS has servers; it is "
            f"{value!r}."
        )
    return int(value)
