"""One installation's home: who may run on it, and its secrets."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from libs.embedded import HomeBusy, StartFailed, load_secrets, read_run_file, write_run_file
from libs.embedded.home import hold


def test_a_second_holder_of_a_home_is_told_who_holds_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with hold(home), pytest.raises(HomeBusy) as busy, hold(home):
        pass
    assert busy.value.pid == os.getpid()
    assert str(busy.value) == (
        f"Touchline already runs on {home} (process {os.getpid()}). "
        "Stop that one first, or set TOUCHLINE_HOME to another directory."
    )


def test_a_home_can_be_held_again_after_its_holder_left(tmp_path: Path) -> None:
    with hold(tmp_path):
        pass
    with hold(tmp_path) as home:
        assert home == tmp_path


def test_secrets_are_made_once_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = load_secrets(home)
    assert load_secrets(home) == first
    assert stat.S_IMODE((home / "secrets.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert len(bytes.fromhex(first.master_key)) == 32
    assert len(bytes.fromhex(first.identity_secret)) == 32
    assert first != load_secrets(tmp_path / "other")


def test_a_home_of_an_earlier_release_gets_the_secret_that_it_lacks(tmp_path: Path) -> None:
    first = load_secrets(tmp_path)
    path = tmp_path / "secrets.json"
    known = json.loads(path.read_text())
    del known["webhook_secret"]
    path.write_text(json.dumps(known))
    second = load_secrets(tmp_path)
    assert second == replace(first, webhook_secret=second.webhook_secret)
    assert second.webhook_secret != first.webhook_secret
    assert load_secrets(tmp_path) == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_do_not_show_when_printed(tmp_path: Path) -> None:
    assert repr(load_secrets(tmp_path)) == "Secrets()"


def test_secrets_lost_beside_data_are_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(StartFailed, match="Restore it from a backup"):
        load_secrets(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"unknown": "value"}', "[1]"])
def test_secrets_that_cannot_be_read_are_not_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(StartFailed, match=r"secrets\.json failed"):
        load_secrets(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == text


def test_the_run_file_counts_only_while_its_home_is_held(tmp_path: Path) -> None:
    assert read_run_file(tmp_path) is None
    with hold(tmp_path):
        write_run_file(tmp_path, {"ingestion": "127.0.0.1:7410"})
        assert read_run_file(tmp_path) == {"ingestion": "127.0.0.1:7410"}
    assert read_run_file(tmp_path) is None


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    with (
        pytest.raises(StartFailed, match=f"open the home {home} failed: .*Not a directory"),
        hold(home),
    ):
        pass
