"""The CDNOW purchases, a real file: counts and sums are known from ../shared/data/README.md."""

from pathlib import Path

import pytest
from rich.console import Console

from libs.cli.importing import Into, import_file
from tests.importing import Store

ROOT = Path(__file__).parents[2]
FILE = ROOT.parent / "shared" / "data" / "cdnow_master.txt"

pytestmark = [
    pytest.mark.real_input,
    pytest.mark.skipif(
        not FILE.exists(), reason=f"{FILE} is not here; it is no part of the project"
    ),
]


async def test_every_purchase_is_one_event_and_a_second_run_over_the_first_adds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store()
    beginning = tmp_path / FILE.name
    heading, *rows = FILE.read_text().splitlines()[:10_001]
    beginning.write_text("\n".join([heading, *rows]), newline="\r\n")
    with (tmp_path / "console.txt").open("w") as out:
        console = Console(file=out)
        mapping = ROOT / "examples" / "cdnow.toml"
        first = await import_file(FILE, mapping, Into(store.record, console))
        second = await import_file(beginning, mapping, Into(store.record, console, batch=333))

    assert (first.rows, first.recorded, first.duplicates) == (69_659, 69_659, 0)
    assert (second.rows, second.recorded, second.duplicates) == (10_000, 0, 10_000)
    cents = sum(round(float(row.split()[3]) * 100) for row in rows)
    assert second.totals == {("order_changed.amount", "USD"): cents * 10_000}
    assert first.totals == {("order_changed.amount", "USD"): 2_500_315_630_000}
    assert len({event.identities[0].value for event in store.all}) == 23_570
    assert len({event.order_changed.order_id for event in store.all}) == 69_659
