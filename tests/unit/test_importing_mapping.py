"""How mapped values become fields, and what a mapping must not say."""

from decimal import Decimal
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st

from libs.cli.importing import MappingError
from libs.cli.importing.errors import Place, RowError
from libs.cli.importing.mapping import Build, load_mapping
from libs.cli.importing.values import money_converter
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.facts_pb2 import CHANNEL_PHONE, DIRECTION_INBOUND, ORDER_STATUS_PLACED

COLUMNS = ("at", "email", "order", "status", "amount", "currency", "quantity", "note")

HEAD = """
[file]
format = "csv"
[event]
source = "shop"
occurred_at = { column = "at", time_zone = "UTC" }
[[identities]]
kind = "email"
column = "email"
"""
ORDER = HEAD + '[fact.order_changed]\norder_id = { column = "order" }\n'


def compiled(folder: Path, mapping: str, columns: tuple[str, ...] = COLUMNS) -> Build:
    path = folder / "mapping.toml"
    path.write_text(mapping, "utf-8")
    return load_mapping(path).compile(columns, historical=True)


def built(folder: Path, mapping: str, **cells: str) -> Event:
    given_cells = {"at": "2024-03-01T09:00:00", "email": "a@example.com", "order": "7", **cells}
    row = compiled(folder, mapping)([given_cells.get(name, "") for name in COLUMNS], b"row")
    assert isinstance(row, Event)
    return row


def broken(folder: Path, mapping: str, **cells: str) -> str:
    with pytest.raises(RowError) as caught:
        built(folder, mapping, **cells)
    assert not any(value in caught.value.reason for value in cells.values() if len(value) > 2)
    return caught.value.reason


def refused(folder: Path, mapping: str) -> str:
    with pytest.raises(MappingError) as caught:
        compiled(folder, mapping)
    return str(caught.value).removeprefix(f"{folder}/mapping.toml, ")


def test_constants_and_columns_become_fields(tmp_path: Path) -> None:
    event = built(tmp_path, ORDER + 'status = "placed"\nchannel = "CHANNEL_PHONE"\n')

    assert event.source == "shop"
    assert event.historical
    assert event.occurred_at.ToJsonString() == "2024-03-01T09:00:00Z"
    assert event.identities[0].value == "a@example.com"
    assert event.order_changed.order_id == "7"
    assert event.order_changed.status == ORDER_STATUS_PLACED
    assert event.order_changed.channel == CHANNEL_PHONE


def test_every_fact_of_the_contract_can_be_mapped(tmp_path: Path) -> None:
    for field in Event.DESCRIPTOR.oneofs_by_name["fact"].fields:
        event = built(tmp_path, f"{HEAD}[fact.{field.name}]\n")
        assert event.WhichOneof("fact") == field.name


def test_an_empty_cell_leaves_its_field_unset_or_takes_the_default(tmp_path: Path) -> None:
    mapping = ORDER + (
        'status = { column = "status", default = "placed" }\n'
        'amount = { column = "amount", currency = "EUR" }\n'
        'items = [{ name = "CD", quantity = { column = "quantity" } }]\n'
    )
    order = built(tmp_path, mapping).order_changed

    assert order.status == ORDER_STATUS_PLACED
    assert not order.HasField("amount")
    assert not order.items, "constants alone make no item"


def test_a_required_cell_that_is_empty_breaks_the_row(tmp_path: Path) -> None:
    mapping = ORDER + 'status = { column = "status", required = true }\n'

    assert broken(tmp_path, mapping) == 'column "status" is empty'


def test_values_are_translated(tmp_path: Path) -> None:
    mapping = ORDER + 'status = { column = "status", map = { "P" = "placed", "-" = "" } }\n'

    assert built(tmp_path, mapping, status="P").order_changed.status == ORDER_STATUS_PLACED
    assert built(tmp_path, mapping, status="-").order_changed.status == 0
    assert "the map lacks" in broken(tmp_path, mapping, status="unheard-of")
    lenient = mapping.replace(" } }", ' }, otherwise = "cancelled" }')
    assert built(tmp_path, lenient, status="unheard-of").order_changed.status == 4


def test_enums_are_matched_whatever_their_case_and_spaces(tmp_path: Path) -> None:
    mapping = HEAD + '[fact.interaction]\nchannel = { column = "note" }\ndirection = "inbound"\n'

    event = built(tmp_path, mapping, note="In person")
    assert event.interaction.channel == 9
    assert event.interaction.direction == DIRECTION_INBOUND
    assert "is none of phone, email" in broken(tmp_path, mapping, note="telegraph")


def test_a_template_joins_columns_and_is_empty_when_they_are(tmp_path: Path) -> None:
    mapping = HEAD + '[fact.note_added]\ntext = { template = "{{{status}}} {note}" }\n'

    assert built(tmp_path, mapping, status="S", note="N").note_added.text == "{S} N"
    assert built(tmp_path, mapping).note_added.text == ""


def test_the_events_own_id_is_a_column(tmp_path: Path) -> None:
    event = built(tmp_path, ORDER.replace('"order"', '"$event_id"'))

    assert event.order_changed.order_id == event.event_id


def test_maps_lists_and_nested_messages_are_filled(tmp_path: Path) -> None:
    mapping = HEAD.replace(
        "[[id", 'context = { location = { name = { column = "note" }, latitude = 48.2 } }\n[[id'
    )
    traits = '[fact.traits_observed.traits]\ncity = { column = "note" }\ntier = "gold"\n'
    event = built(tmp_path, mapping + traits, note="Wien")

    assert event.context.location.name == "Wien"
    assert event.context.location.latitude == 48.2
    assert dict(event.traits_observed.traits) == {"city": "Wien", "tier": "gold"}
    assert not built(tmp_path, mapping + traits).HasField("context")

    mapping = HEAD + (
        '[fact.interaction]\nparticipants = { column = "note", separator = ";" }\n'
        'channel = "phone"\n'
    )
    assert list(built(tmp_path, mapping, note="a; b;;c").interaction.participants) == [*"abc"]
    mapping = mapping.replace('{ column = "note", separator = ";" }', '["x", { column = "note" }]')
    assert list(built(tmp_path, mapping, note="y").interaction.participants) == ["x", "y"]


def test_an_identity_whose_cell_is_empty_is_left_out(tmp_path: Path) -> None:
    mapping = ORDER.replace("[fact", '[[identities]]\nkind = "device"\ncolumn = "note"\n[fact')

    assert len(built(tmp_path, mapping, note="d").identities) == 2
    assert [i.kind for i in built(tmp_path, mapping, email="", note="d").identities] == [5]
    assert broken(tmp_path, mapping, email="").startswith("no identity")


@pytest.mark.parametrize(
    ("options", "cell", "expected"),
    [
        ("", "2024-03-01", "2024-03-01T00:00:00Z"),
        ("", "2024-03-01 09:15:00.250+02:00", "2024-03-01T07:15:00.250Z"),
        ('format = "%d.%m.%Y %H:%M"', "01.03.2024 09:15", "2024-03-01T09:15:00Z"),
        ('format = "unix"', "1709284500.5", "2024-03-01T09:15:00.500Z"),
        ('format = "unix_ms"', "1709284500001", "2024-03-01T09:15:00.001Z"),
        ('format = "unix"', "-1", "1969-12-31T23:59:59Z"),
        ('format = "%Y%m%d", zone = "America/New_York"', "19970701", "1997-07-01T04:00:00Z"),
    ],
)
def test_times_are_read_in_many_forms(
    tmp_path: Path, options: str, cell: str, expected: str
) -> None:
    zone = '"UTC"'
    if "zone = " in options:
        options, zone = options.split(", zone = ")
    comma = ", " if options else ""
    mapping = ORDER.replace('at", time_zone = "UTC"', f'at"{comma}{options}, time_zone = {zone}')

    assert built(tmp_path, mapping, at=cell).occurred_at.ToJsonString() == expected


def test_a_time_that_is_none_breaks_the_row(tmp_path: Path) -> None:
    assert broken(tmp_path, ORDER, at="yesterday") == 'column "at" is no time in the form ISO 8601'
    assert broken(tmp_path, ORDER, at="").startswith("no time")
    without_zone = ORDER.replace(', time_zone = "UTC"', "")
    assert "has no offset" in broken(tmp_path, without_zone)


@given(
    st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    st.sampled_from(["plain", "german", "exponent"]),
)
def test_amounts_are_exact_to_the_micro(micros: int, form: str) -> None:
    amount = Decimal(micros).scaleb(-6)
    options: dict[str, str] = {}
    text = f"{amount:f}"
    if form == "german":
        options = {"decimal": ",", "thousands": "."}
        text = f"{amount:,f}".translate(str.maketrans(",.", ".,"))
    elif form == "exponent":
        text = f"{micros}e-6"

    assert money_converter(options, Place("m"))(text, "EUR").micros == micros


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("11.7700001", "more than 6 decimals"),
        ("9223372036855", "too large"),
        ("1e400", "too large"),
        ("NaN", "is no number"),
        ("$5", "is no number"),
        ("1_000", "is no number"),
        ("1,5", "is no number"),
        ("0." + "1" * 70, "too many digits"),
    ],
)
def test_an_amount_that_is_none_breaks_the_row(tmp_path: Path, cell: str, reason: str) -> None:
    mapping = ORDER + 'amount = { column = "amount", currency = "USD" }\n'

    assert reason in broken(tmp_path, mapping, amount=cell)


def test_a_currency_may_be_a_column(tmp_path: Path) -> None:
    mapping = ORDER + 'amount = { column = "amount", currency = { column = "currency" } }\n'

    amount = built(tmp_path, mapping, amount="12.5", currency="eur").order_changed.amount
    assert MessageToDict(amount) == {"currencyCode": "EUR", "micros": "12500000"}
    assert "without a currency" in broken(tmp_path, mapping, amount="12.5")
    assert "ISO 4217" in broken(tmp_path, mapping, amount="12.5", currency="euros")


@pytest.mark.parametrize("cell", ["-1", "4294967296", "1.5", "two"])
def test_a_number_out_of_range_breaks_the_row(tmp_path: Path, cell: str) -> None:
    mapping = ORDER + 'items = [{ quantity = { column = "quantity" } }]\n'

    assert broken(tmp_path, mapping, quantity=cell).startswith('column "quantity" is')
    assert built(tmp_path, mapping, quantity="2.0").order_changed.items[0].quantity == 2


@pytest.mark.parametrize(
    ("mapping", "told"),
    [
        (
            ORDER + 'statuss = "placed"',
            '[fact.order_changed] statuss: unknown key. Did you mean "status"?',
        ),
        (ORDER + 'status = "plcaed"', "[fact.order_changed] status: the value is none of placed"),
        (ORDER + "status = 1", "[fact.order_changed] status: must be text in quotes"),
        (
            ORDER + 'amount = { column = "amuont", currency = "EUR" }',
            'no column "amuont". Did you mean "amount"? It has: at, email',
        ),
        (
            ORDER + 'amount = { column = "amount" }',
            "[fact.order_changed] amount.currency: must be an ISO 4217 code",
        ),
        (
            ORDER + 'amount = { column = "amount", currency = "EUR", curency = 1 }',
            "amount.curency: unknown key",
        ),
        (ORDER + "amount = 12", "amount.currency: must be"),
        (ORDER + 'items = { sku = "x" }', "[fact.order_changed] items: must be a list of tables"),
        (
            ORDER + 'items = [{ skuu = "x" }]',
            '[fact.order_changed] items.0.skuu: unknown key. Did you mean "sku"?',
        ),
        (
            ORDER + 'items = { each = "x" }',
            "items.each: must be the path of an array in JSON lines",
        ),
        (ORDER + "items = [{ quantity = -1 }]", "items.0.quantity: the value is not between 0 and"),
        (ORDER + 'promised_at = "soon"', "promised_at: the value is no time"),
        (ORDER + 'status = { column = "status", map = {} }', "status.map: must be a table"),
        (
            ORDER + 'status = { column = "status", map = { "a" = "b" } }',
            "status.map.a: the value is none of",
        ),
        (
            ORDER + 'status = { column = "status", otherwise = "placed" }',
            "status.otherwise: is for values that the map lacks",
        ),
        (
            ORDER + 'status = { column = "status", value = "placed" }',
            "status: needs exactly one of",
        ),
        (ORDER + 'status = { template = "{status" }', "status: expected '}'"),
        (ORDER + 'status = { template = "placed" }', "status: names no column"),
        (
            ORDER.replace("order_changed", "order_chnaged"),
            '[fact.order_chnaged]: unknown fact. Did you mean "order_changed"?',
        ),
        (ORDER + "[fact.note_added]", "[fact]: needs exactly one table"),
        (HEAD, "[fact]: the table is missing"),
        (
            ORDER.replace('"csv"', '"cvs"'),
            '[file] format: must be a file format. Did you mean "csv"?',
        ),
        (
            ORDER.replace('"csv"', '"csv"\ndelimiter = "||"'),
            "[file] delimiter: must be one character",
        ),
        (
            ORDER.replace('"csv"', '"csv"\nencoding = "utf-16"'),
            "[file] encoding: is no known encoding that extends ASCII",
        ),
        (ORDER.replace('"csv"', '"jsonl"\ncolumns = ["a"]'), "[file] columns: unknown key"),
        (ORDER.replace('source = "shop"', ""), "[event] source: must be text"),
        (
            ORDER.replace("occurred_at", "ocurred_at"),
            '[event] ocurred_at: unknown key. Did you mean "occurred_at"?',
        ),
        (ORDER.replace("[event]", '[event]\nevent_id = "x"'), "[event] event_id: unknown key"),
        (
            ORDER.replace("[event]", '[event]\nid = { column = "$event_id" }'),
            "[event] id: $event_id is made from this",
        ),
        (
            ORDER.replace('"UTC"', '"Vienna"'),
            "[event] occurred_at.time_zone: must be an IANA time zone",
        ),
        (
            ORDER.replace(', time_zone = "UTC"', ', format = "%Y"'),
            "[event] occurred_at: needs time_zone",
        ),
        (ORDER.replace(', time_zone = "UTC"', ', format = "epoch"'), "occurred_at.format: must be"),
        (
            ORDER.replace('kind = "email"', 'kind = "e-mail"'),
            "[identities.0] kind: the value is none of external_id, email",
        ),
        (ORDER.replace('kind = "email"', ""), "[identities.0]: must be a table with kind"),
        (
            ORDER.replace('column = "email"', ""),
            "[identities.0]: needs exactly one of column, template and value",
        ),
        (ORDER.replace("[[identities]]", "[identity]"), "identity: unknown key"),
        ("source =", "is no TOML"),
    ],
)
def test_a_mapping_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, mapping: str, told: str
) -> None:
    assert told in refused(tmp_path, mapping)


def test_an_optional_column_may_be_missing(tmp_path: Path) -> None:
    mapping = ORDER + 'status = { column = "state", optional = true, default = "placed" }\n'

    assert built(tmp_path, mapping).order_changed.status == ORDER_STATUS_PLACED


def test_a_column_that_is_there_twice_is_refused_when_it_is_mapped(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match='2 columns "email"'):
        compiled(tmp_path, ORDER, (*COLUMNS, "email"))


def test_a_mapping_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match=r"none\.toml: can't be read: No such file"):
        load_mapping(tmp_path / "none.toml")
