"""A mapping's `[merge]`: a row says that two profiles are one person."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from libs.cli.importing.cells import Columns
from libs.cli.importing.errors import EmptyError, Place
from libs.cli.importing.identities import compile_identity
from libs.cli.importing.readers import Row
from libs.cli.importing.tables import compile_table, fill_all
from touchline.events.v1.identity_pb2 import Identity
from touchline.ids import import_digest, import_id
from touchline.profile.v1.profile_service_pb2 import MergeProfilesRequest

BuildMerge = Callable[[Row], MergeProfilesRequest]
"""row → request; raises RowError."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What came of a merge.

    Attributes:
        new: Whether it was decided now, not before.
        problem: Why it was not decided; empty: it is.
    """

    new: bool
    problem: str = ""


Decide = Callable[[MergeProfilesRequest], Awaitable[Decided]]
"""Merges two profiles."""


async def cannot_decide(_: MergeProfilesRequest) -> Decided:
    """Say of every merge that nobody is there who merges."""
    return Decided(new=False, problem="nobody merges here")


KIND: Final = "merge"
_TEXTS: Final = ("decided_by", "reason")
_SIDES: Final = ("left", "right")


def compile_merge(
    source: str, table: dict[str, Any], place: Place, columns: Columns, anonymised: str
) -> BuildMerge:
    """Compile what makes a row a merge.

    The decision's id names the source and the two identities, and nothing else: a merge that two
    files tell is decided once, and one that somebody took back is not decided again.

    Raises:
        MappingError: A value can't be used.
    """
    prototype = MergeProfilesRequest()
    texts = {key: value for key, value in table.items() if key in _TEXTS}
    for key in (*_TEXTS, *_SIDES):
        if key not in table:
            raise place.at(key).error("is missing: a merge has decided_by, reason, left and right")
    place.check_keys(table, (*_TEXTS, *_SIDES))
    fills = compile_table(prototype, texts, place, columns)
    left, right = (
        compile_identity(side.profile.identity, table[name], place.at(name), columns, anonymised)
        for name, side in (("left", prototype.left), ("right", prototype.right))
    )

    def build(row: Row) -> MergeProfilesRequest:
        request = MergeProfilesRequest()
        request.CopyFrom(prototype)
        fill_all(fills, request, row)
        for name, fill, side in (("left", left, request.left), ("right", right, request.right)):
            fill(side.profile.identity, row)
            if not side.profile.identity.value:
                raise EmptyError(f"the {name} identity is empty")
        named = _name(request.left.profile.identity) + _name(request.right.profile.identity)
        request.decision_id = import_id(0, import_digest(source, KIND, named))
        return request

    return build


def _name(identity: Identity) -> bytes:
    parts = (str(identity.kind), identity.namespace, identity.value)
    return b"".join(f"{len(part)}:{part}".encode() for part in parts)
