"""Whose data a call may touch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from libs.rpc import errors

TENANT_METADATA: Final = "touchline-tenant"
"""The metadata that names a call's tenant. Absent: `default`."""

DEFAULT_TENANT: Final = "default"

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: its name outside, and the small number that stands for it inside, from 1."""

    name: str
    number: int


class Tenants:
    """The tenants of the settings; a tenant's number is its place among them.

    Names are only ever added at the end: stored events keep the numbers.

    Raises:
        ValueError: No name, a name twice, or one that is not 1 to 63 of a-z, 0-9, `-` and `_`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        if wrong or not names or len(set(names)) < len(names):
            raise ValueError(
                f"TOUCHLINE_TENANTS must name each tenant once, in 1 to 63 of a-z, 0-9, - and _; "
                f"it says {','.join(names)!r}."
            )
        self.all = tuple(Tenant(name, number) for number, name in enumerate(names, start=1))
        self._by_name = {tenant.name: tenant for tenant in self.all}

    def named(self, name: str) -> Tenant:
        """Return the tenant of that name.

        Raises:
            CallError: UNKNOWN_TENANT.
        """
        tenant = self._by_name.get(name)
        if tenant is None:
            raise errors.unknown_tenant(name)
        return tenant

    def tenant_of(self, context: grpc.aio.ServicerContext[Any, Any]) -> Tenant:
        """Return the tenant that a call's metadata names.

        Raises:
            CallError: UNKNOWN_TENANT.
        """
        for key, value in context.invocation_metadata() or ():
            if key == TENANT_METADATA:
                return self.named(
                    value if isinstance(value, str) else value.decode(errors="replace")
                )
        return self.named(DEFAULT_TENANT)
