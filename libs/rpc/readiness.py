"""When a server can answer: some of its services may answer earlier than the others."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from libs.rpc.errors import CallError


@dataclass(frozen=True, slots=True)
class Readiness:
    """Until it is ready, health says NOT_SERVING, and calls are refused with a reason.

    Attributes:
        ready: Set once the server can answer, and never cleared.
        refusal: Returns what callers are told until then.
        meanwhile: The services that answer all the same, by their full names.
    """

    ready: asyncio.Event
    refusal: Callable[[], CallError]
    meanwhile: frozenset[str] = frozenset()

    def refuse(self, method: str) -> None:
        """Refuse a call that can't be answered yet.

        Args:
            method: package.Service/Method.

        Raises:
            CallError: what it is refused with.
        """
        service = method.partition("/")[0]
        if not (self.serves(service) or service.startswith("grpc.")):
            raise self.refusal()

    def serves(self, service_name: str) -> bool:
        """Tell whether a service answers now; an empty name stands for the whole server."""
        return self.ready.is_set() or service_name in self.meanwhile
