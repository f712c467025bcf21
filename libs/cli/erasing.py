"""Erasing a customer, looking in every service for what is left, and the certificate of both."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import json_format

from libs.rpc.tenants import DEFAULT_TENANT
from touchline.client import Client
from touchline.failures import CallFailed
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.profile.v1.erasure_pb2 import Erased
from touchline.projection.v1 import projection_service_pb2 as projection

KIND: Final = "touchline.erasure/1"
"""What a certificate's file calls itself, and its version."""
STORE: Final = "ingestion"
_CHECK_SECONDS: Final = 120.0

Tell = Callable[[str, int, int], None]
"""Tells that a service has been looked at, and how many of how many."""


class CertificateError(Exception):
    """A file that is no certificate of an erasure, in words for a person."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a service found of an erased customer.

    Attributes:
        service: Its name.
        checks: What it looked at.
        positions: How far each of its projections had come.
        failure: Why it could not be asked; empty: it answered.
    """

    service: str
    checks: Sequence[projection.ErasureCheck] = ()
    positions: tuple[tuple[str, int], ...] = ()
    failure: str = ""

    @property
    def left(self) -> int:
        """How many rows and keys there still are that could tell something of the customer."""
        return sum(check.left for check in self.checks)

    @property
    def clean(self) -> bool:
        """Whether it looked, and found nothing."""
        return not self.failure and not self.left


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was erased, and what was found afterwards.

    Attributes:
        erased: What was done.
        checked: What each service found; empty: nobody was asked yet.
        checked_at: When they were asked; None: see `checked`.
        tenant: Whose customer it was.
    """

    erased: Erased
    checked: tuple[Checked, ...] = ()
    checked_at: datetime | None = None
    tenant: str = DEFAULT_TENANT

    @property
    def clean(self) -> bool:
        """Whether every service looked and found nothing."""
        return bool(self.checked) and all(one.clean for one in self.checked)


async def check(client: Client, certificate: Certificate, tell: Tell) -> Certificate:
    """Ask every service what is left of an erased customer.

    Each looks once it has folded the erasure. One that does not answer is told so in the result.

    Args:
        client: Of the running services.
        certificate: Of the erasure.
        tell: Hears of each service that was asked.
    """
    asked = [STORE, *client.projections]
    done = 0

    async def look(service: str) -> Checked:
        nonlocal done
        try:
            found = await _look(client, service, certificate)
        except grpc.aio.AioRpcError as error:
            found = Checked(service, failure=CallFailed.of(error).message)
        done += 1
        tell(service, done, len(asked))
        return found

    checked = await asyncio.gather(*map(look, asked))
    return replace(certificate, checked=tuple(checked), checked_at=datetime.now(UTC))


async def _look(client: Client, service: str, certificate: Certificate) -> Checked:
    position = certificate.erased.position
    if service == STORE:
        in_store = ingestion.CheckErasureRequest(position=position)
        stored = await client.ingestion.CheckErasure(in_store, timeout=_CHECK_SECONDS)
        return Checked(service, list(stored.checks))
    request = projection.CheckErasureRequest(tenant=certificate.tenant, position=position)
    found = await client.projections[service].CheckErasure(request, timeout=_CHECK_SECONDS)
    return Checked(service, list(found.checks), tuple(sorted(found.positions.items())))


def write(certificate: Certificate, path: Path) -> None:
    """Write a certificate, which its owner alone may read, in the place of an older one of it.

    Raises:
        OSError: It can't be written.
    """
    text = json.dumps(_told(certificate), indent=2, ensure_ascii=False) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.touch(mode=0o600, exist_ok=False)
        beside.write_text(text, "utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Certificate:
    """Return the certificate in a file.

    Raises:
        CertificateError: There is none, or it is damaged.
    """
    try:
        told = json.loads(path.read_text("utf-8"))
        if told["kind"] != KIND:
            raise ValueError(told["kind"])
        erased = json_format.ParseDict(told["erased"], Erased())
        if not (erased.erasure_id and erased.position):
            raise ValueError(erased)
        return Certificate(erased, tenant=str(told["tenant"]))
    except OSError as error:
        raise CertificateError(f"{path} can't be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, json_format.ParseError):
        raise CertificateError(
            f"{path} is no certificate that `touchline erase` wrote, or it is damaged."
        ) from None


def _told(certificate: Certificate) -> dict[str, Any]:
    at = certificate.checked_at
    return {
        "kind": KIND,
        "tenant": certificate.tenant,
        "erased": json_format.MessageToDict(
            certificate.erased,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        ),
        "checked_at": at and at.isoformat(timespec="milliseconds"),
        "nothing_left": certificate.clean,
        "checked": [
            {
                "service": one.service,
                "failure": one.failure,
                "positions": dict(one.positions),
                "checks": [
                    {"what": check.what, "left": check.left, "shut": check.shut}
                    for check in one.checks
                ],
            }
            for one in certificate.checked
        ],
        "stays": [{"what": what, "why": why} for what, why in stays(certificate.erased)],
        "backups": BACKUPS,
    }


def stays(erased: Erased) -> list[tuple[str, str]]:
    """Return what an erasure leaves, each thing with its reason."""
    return [_ENVELOPES, _OTHER_TIMES if erased.HasField("occurred") else _KEYS, _ITSELF]


_ENVELOPES: Final = (
    "the events' envelopes",
    "their place, type and times keep the line provable and the counts right; what was said is "
    "sealed, and its key is gone",
)
_KEYS: Final = (
    "identity keys",
    "keyed hashes without their values: whoever comes back with the same address is linked again, "
    "as somebody new",
)
_OTHER_TIMES: Final = (
    "other times",
    "what happened outside the range, and the identities: they were not to be erased",
)
_ITSELF: Final = (
    "this erasure",
    "when, why and who asked for it: the event on the line, and this certificate",
)
BACKUPS: Final = (
    "A backup made before the erasure still has the keys in its own dump of data keys, and opens "
    "with that alone: let that dump expire. After restoring one, erase again from this certificate."
)
"""What an erasure means for backups."""
