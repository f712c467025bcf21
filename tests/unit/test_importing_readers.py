"""Rows of each format, and what becomes of broken ones."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cli.importing.errors import ImportFileError, RowError
from libs.cli.importing.formats import FileFormat
from libs.cli.importing.readers import RowFile

CSV = FileFormat("csv")
JSONL = FileFormat("jsonl")
SPLIT = FileFormat("columns")


def read(folder: Path, raw: bytes, file_format: FileFormat) -> list[tuple[int, object]]:
    path = folder / "rows"
    path.write_bytes(raw)
    with RowFile(path, file_format) as file:
        return [
            (line, row.reason if isinstance(row, RowError) else row) for line, row, _ in file.rows()
        ]


def test_csv_cells_may_be_quoted_and_hold_lines(tmp_path: Path) -> None:
    raw = b'a;b\n1;"x;""y"""\n\n2;"line\nbreak"\r\n3;\xc3\xbc\n'

    assert read(tmp_path, raw, FileFormat("csv", delimiter=";")) == [
        (2, ["1", 'x;"y"']),
        (4, ["2", "line\nbreak"]),
        (6, ["3", "ü"]),
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")

    with RowFile(path, CSV) as file:
        assert file.columns == ("a", "b")


def test_a_file_without_header_takes_its_columns_from_the_mapping(tmp_path: Path) -> None:
    named = FileFormat("csv", columns=("a", "b"))
    assert read(tmp_path, b"1,2\n", named) == [(1, ["1", "2"])]
    named = FileFormat("columns", columns=("a", "b"))
    assert read(tmp_path, b"\xef\xbb\xbf 1  2 \n", named) == [(1, ["1", "2"])]


def test_columns_are_parted_by_any_white_space(tmp_path: Path) -> None:
    raw = b"\n a  b\n 1 2\r\n\n\t3\t4"

    assert read(tmp_path, raw, SPLIT) == [(3, ["1", "2"]), (5, ["3", "4"])]


def test_json_numbers_keep_their_digits(tmp_path: Path) -> None:
    rows = read(tmp_path, b'{"a": 0.10, "b": {"c": [1, null, true]}}\n', JSONL)

    assert rows == [(1, {"a": "0.10", "b": {"c": [1, None, True]}})]


def test_json_paths_are_found_in_objects_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text('{"a": {"b": 1}}\n{"items": [{"sku": 1}], "c": null}\n')

    with RowFile(path, JSONL) as file:
        assert file.columns == ("a", "a.b", "items", "items[].sku", "c")
        assert [line for line, _, _ in file.rows()] == [1, 2]


@pytest.mark.parametrize(
    ("file_format", "raw", "reasons"),
    [
        (CSV, b"a,b\n1\n1,2,3\n\xff,2\n1,2\n", ["1 cells", "3 cells", "not utf-8"]),
        (SPLIT, b"a b\n1\n1 2 3\n\xff 2\n1 2\n", ["1 cells", "3 cells", "not utf-8"]),
        (
            JSONL,
            b'{"a": }\n[1]\n"\xff"\n{"a": NaN}\n' + b'{"a":' * 99_999 + b'\n{"a": 1}\n',
            ["is not JSON: Expecting value at character 7", "not an object", "not utf-8"]
            + ["out of bounds"] * 2,
        ),
    ],
)
def test_a_broken_row_says_why_and_the_next_is_read(
    tmp_path: Path, file_format: FileFormat, raw: bytes, reasons: list[str]
) -> None:
    rows = read(tmp_path, raw, file_format)
    first = 1 if file_format is JSONL else 2

    assert [line for line, _ in rows] == list(range(first, first + len(reasons) + 1))
    for reason, (_, told) in zip(reasons, rows[:-1], strict=True):
        assert isinstance(told, str)
        assert reason in told
    assert not isinstance(rows[-1][1], str)


def test_a_quote_that_nothing_closes_costs_one_row(tmp_path: Path) -> None:
    raw = b'a,b\n1,"stray\n' + b"2,y\n" * 5000 + b'3,"z"\n4,"end'
    rows = read(tmp_path, raw, CSV)

    assert [line for line, row in rows if isinstance(row, str)] == [2, 5004]
    assert len([row for _, row in rows if row == ["2", "y"]]) == 5000
    assert rows[-2] == (5003, ["3", "z"])


def test_bytes_of_another_encoding_are_read_when_it_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, b"a\n\xfc\n", FileFormat("csv", encoding="cp1252")) == [(2, ["ü"])]


@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=8))
def test_what_json_writes_is_read_back_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    raw = "".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in cells).encode()

    rows = read(tmp_path_factory.getbasetemp(), raw, JSONL)
    assert rows == [(n, {"a": a, "b": b}) for n, (a, b) in enumerate(cells, 1)]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        ("a,b".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"PK\x03\x04", "is a zip archive or a spreadsheet"),
        (b"\xff,a\n", "the header line can't be read: has bytes that are not utf-8"),
        (b'"a\n', "the header line can't be read: unexpected end"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, raw: bytes, told: str) -> None:
    with pytest.raises(ImportFileError, match=told):
        read(tmp_path, raw, CSV)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="none can't be read: No such file"):
        RowFile(tmp_path / "none", CSV)
    with pytest.raises(ImportFileError, match="Is a directory"):
        RowFile(tmp_path, CSV)
