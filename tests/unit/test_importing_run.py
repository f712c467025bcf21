"""Whole imports: ids, verdicts, problems, and what happens when recording fails."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from libs.cli.import_command import import_command
from libs.cli.importing import ImportStoppedError, Into, import_file, print_summary
from tests.importing import MAPPING, Files, Store
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import FieldViolation, Outcome, Verdict

HEADER = "at,email,order\n"
ROW = "2024-03-01T09:00:00,a@example.com,{}\n"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path)


async def test_rows_become_historical_events_unless_they_are_live(files: Files) -> None:
    past, _ = await files.imported(HEADER + ROW.format(1))
    live, _ = await files.imported(HEADER + ROW.format(1), live=True)

    assert [event.historical for event in past + live] == [True, False]


async def test_a_file_imported_again_is_all_duplicates(files: Files) -> None:
    store = Store()
    content = HEADER + "".join(ROW.format(n) for n in range(10))
    _, first = await files.imported(content, store=store)
    _, second = await files.imported(content, store=store)

    assert (first.recorded, first.duplicates, first.complete) == (10, 0, True)
    assert (second.recorded, second.duplicates, second.complete) == (0, 10, True)


async def test_identical_rows_are_different_events(files: Files) -> None:
    events, result = await files.imported(HEADER + ROW.format(1) * 3)

    assert result.recorded == 3
    assert len({event.event_id for event in events}) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 3), max_size=12), st.integers(1, 5), st.randoms())
def test_ids_depend_neither_on_batches_nor_on_the_order_of_rows(
    files: Files, orders: list[int], batch: int, shuffle: random.Random
) -> None:
    def ids(batch_size: int) -> set[str]:
        content = HEADER + "".join(ROW.format(order) for order in orders)
        events, _ = asyncio.run(files.imported(content, batch=batch_size))
        return {event.event_id for event in events}

    expected = ids(1000)
    assert len(expected) == len(orders)
    assert ids(batch) == expected
    shuffle.shuffle(orders)
    assert ids(batch) == expected


async def test_line_ends_and_a_byte_order_mark_do_not_change_ids(files: Files) -> None:
    content = HEADER + ROW.format(1)
    plain, _ = await files.imported(content)
    other, _ = await files.imported(b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode())

    assert plain == other


async def test_a_named_id_makes_the_event_id_and_an_empty_one_breaks_the_row(files: Files) -> None:
    mapping = MAPPING.replace("[event]", '[event]\nid = { column = "order" }')
    content = HEADER + ROW.format(1) + ROW.format(1) + ROW.format("")
    content += ROW.format(1).replace("a@example.com", "b@example.com")
    events, result = await files.imported(content, mapping)

    assert len(events) == 1
    assert (result.recorded, result.duplicates, result.conflicts, result.broken) == (1, 1, 1, 1)
    assert "line 4 broken" in files.printed()
    assert "line 5 conflict" in files.printed()


async def test_broken_rows_are_reported_by_line_and_the_rest_is_recorded(files: Files) -> None:
    bad = "never,secret@example.com,1\n"
    _, result = await files.imported(HEADER + (bad + ROW.format(2)) * 30)

    assert (result.rows, result.recorded, result.broken) == (60, 30, 30)
    assert not result.complete
    assert files.printed().count("broken") == 20
    assert len(files.reported()) == 31
    assert files.reported()[1] == '2,broken,"column ""at"" is no time in the form ISO 8601"'
    assert "secret" not in files.printed() + "".join(files.reported())

    await files.imported(HEADER + ROW.format(2))
    assert not files.reported(), "the report of an earlier import must not stay"


async def test_rejected_events_are_reported_with_the_services_reason(files: Files) -> None:
    class Strict(Store):
        async def record(self, events: Sequence[Event]) -> Sequence[Verdict]:
            rule = FieldViolation(field="identities[0].value", description="is no email")
            rejected = Outcome.OUTCOME_REJECTED
            return [Verdict(outcome=rejected, violations=[rule]) for _ in events]

    _, result = await files.imported(HEADER + ROW.format(1), store=Strict())

    assert result.rejected == 1
    assert files.reported()[1] == "2,rejected,identities[0].value: is no email"


async def test_several_batches_are_on_their_way_and_never_more_than_four(files: Files) -> None:
    class Slow(Store):
        now = most = 0

        async def record(self, events: Sequence[Event]) -> Sequence[Verdict]:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1
            return await super().record(events)

    store = Slow()
    content = HEADER + "".join(ROW.format(n) for n in range(95))
    _, result = await files.imported(content, store=store, batch=10)

    assert result.recorded == 95
    assert store.most == 4
    assert sorted(store.batches) == [5] + [10] * 9


async def test_when_recording_fails_repeating_goes_on_where_it_stopped(files: Files) -> None:
    class Failing(Store):
        async def record(self, events: Sequence[Event]) -> Sequence[Verdict]:
            if len(self.batches) == 3:
                raise ConnectionError("gone")
            return await super().record(events)

    store = Failing()
    content = HEADER + "".join(ROW.format(n) for n in range(100))
    with pytest.raises(ImportStoppedError) as stopped:
        await files.imported(content, store=store, batch=10)
    assert isinstance(stopped.value.__cause__, ConnectionError)
    assert stopped.value.result.recorded == 30

    again = Store()
    again.events = store.events
    _, result = await files.imported(content, store=again, batch=7)
    assert (result.recorded, result.duplicates) == (70, 30)


async def test_elements_of_a_json_array_become_items(files: Files) -> None:
    mapping = MAPPING.replace('"csv"', '"jsonl"') + (
        'amount = { column = "total.value", currency = { column = "total.code" } }\n'
        'items = { each = "lines", sku = { column = "article.0.sku" }, '
        'quantity = { column = "n", default = 1 } }\n'
    )
    row = '{"at": 0, "email": "a@example.com", "order": 7, "total": {"value": 0.07, "code": "EUR"},'
    row = row.replace('"at": 0', '"at": "2024-03-01"')
    content = row + '"lines": [{"article": [{"sku": "A"}], "n": 2}, {"article": [{"sku": "B"}]}]}\n'
    content += row + '"lines": "none"}\n'
    events, result = await files.imported(content, mapping)

    items = events[0].order_changed.items
    assert [(item.sku, item.quantity) for item in items] == [("A", 2), ("B", 1)]
    assert result.totals == {("order_changed.amount", "EUR"): 70_000}
    assert files.reported()[1] == '2,broken,"column ""lines"" is no list of objects"'


async def test_text_that_is_no_unicode_breaks_its_row(files: Files) -> None:
    content = '{"at": "2024-03-01", "email": "a@example.com", "order": "\\ud800"}\n'
    _, result = await files.imported(content, MAPPING.replace('"csv"', '"jsonl"'))

    assert result.broken == 1


@pytest.mark.parametrize("name", ["contacts.csv", "calls.jsonl"])
async def test_the_examples_import_whole(files: Files, name: str) -> None:
    path, store = EXAMPLES / name, Store()
    result = await import_file(path, path.with_suffix(".toml"), Into(store.record, files.console))

    assert (result.rows, result.recorded) == (3, 3)
    assert all(event.identities[0].namespace == "crm" for event in store.all)


async def test_the_summary_has_every_count_and_exact_sums(files: Files) -> None:
    mapping = MAPPING + 'amount = { column = "order", currency = "USD" }\n'
    content = HEADER + ROW.format("1000000.10") + ROW.format("0.2") + ROW.format("x")
    _, result = await files.imported(content, mapping)
    print_summary(result, files.console)

    assert "1,000,000.30 USD" in files.printed()
    assert "rows.txt.rejected.csv" in files.printed()


async def test_a_terminal_gets_a_bar(files: Files, tmp_path: Path) -> None:
    with (tmp_path / "terminal.txt").open("w+") as out:
        files.console = Console(file=out, force_terminal=True, width=100)
        await files.imported(HEADER + ROW.format(1))
        out.seek(0)
        assert "100 %" in out.read()


@pytest.fixture
def command() -> Typer:
    app = Typer()
    app.command()(import_command)
    return app


def test_the_command_says_where_a_mapping_is_wrong_and_exits_2(
    files: Files, command: Typer
) -> None:
    (files.folder / "rows.csv").write_text("at,mail,order\n")
    (files.folder / "m.toml").write_text(MAPPING)

    done = CliRunner().invoke(command, ["rows.csv", "--mapping", "m.toml"])
    assert done.exit_code == 2
    assert 'm.toml, [identities.0]: the file has no column "email"' in done.output
    assert 'Did you mean "mail"?' in done.output


def test_the_command_exits_3_when_nothing_answers(
    files: Files, command: Typer, unused_tcp_port: int
) -> None:
    (files.folder / "rows.csv").write_text(HEADER + ROW.format(1))
    (files.folder / "m.toml").write_text(MAPPING)

    target = f"127.0.0.1:{unused_tcp_port}"
    arguments = ["rows.csv", "--mapping", "m.toml", "--ingestion", target]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 3
    assert "touchline up" in done.output
    assert "Repeat the same command" in done.output
