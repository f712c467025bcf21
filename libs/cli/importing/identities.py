"""Identities of a mapping: whom a row concerns."""

from collections.abc import Callable
from typing import Any, Final

from libs.cli.importing.cells import Columns
from libs.cli.importing.errors import EmptyError, Place
from libs.cli.importing.leaves import compile_leaf
from libs.cli.importing.lists import Fill
from libs.cli.importing.readers import Row
from libs.cli.importing.tables import compile_table, fill_all, set_field
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    Identity,
)

MOST_IDENTITIES: Final = 16
_KEYS: Final = ("kind", "namespace")

FillIdentity = Callable[[Identity, Row], None]
"""Sets an identity from a row; its value stays empty when the row has none."""


def compile_identity(
    identity: Identity, entry: Any, place: Place, columns: Columns, anonymised: str
) -> FillIdentity:
    """Set an identity's constants in a prototype and return the filler of the rest.

    Args:
        identity: The prototype.
        entry: `kind`, `namespace` and the keys of a value.
        place: Where it stands.
        columns: The file's columns.
        anonymised: The namespace in which an email without @ is an external id; empty: it is
            an email, which the service will refuse.

    Raises:
        MappingError: It can't be used.
    """
    if not isinstance(entry, dict) or "kind" not in entry:
        raise place.error('must be a table with kind = "email" or another')
    names = {key: entry[key] for key in _KEYS if key in entry}
    fills = compile_table(identity, names, place, columns)
    spec = {key: value for key, value in entry.items() if key not in _KEYS}
    field = Identity.DESCRIPTOR.fields_by_name["value"]
    fill_value = set_field(identity, field, compile_leaf(field, spec, place, columns, _KEYS))
    if fill_value:
        fills.append(fill_value)

    def fill(target: Identity, row: Row) -> None:
        fill_all(fills, target, row)

    def fill_anonymised(target: Identity, row: Row) -> None:
        fill_all(fills, target, row)
        if target.kind == IDENTITY_KIND_EMAIL and target.value and "@" not in target.value:
            target.kind = IDENTITY_KIND_EXTERNAL_ID
            target.namespace = anonymised

    return fill_anonymised if anonymised else fill


def compile_identities(
    prototype: Any, entries: list[Any], place: Place, columns: Columns, anonymised: str
) -> Fill:
    """Add `[[identities]]` to an event's prototype and return their filler.

    Identities without a value are left out.

    Raises:
        MappingError: One can't be used.
    """
    compiled = []
    for index, entry in enumerate(entries):
        identity, at = prototype.identities.add(), place.inside(f"identities.{index}")
        compiled.append(compile_identity(identity, entry, at, columns, anonymised))
    backwards = list(enumerate(compiled))[::-1]

    def fill(event: Any, row: Row) -> bool:
        identities = event.identities
        for index, fill_one in backwards:
            fill_one(identities[index], row)
            if not identities[index].value:
                del identities[index]
        if not identities:
            raise EmptyError("no identity: all columns of [[identities]] are empty")
        return True

    return fill
