"""A service that does not answer is named, with how to start it or where to say where it is."""

import socket
from contextlib import ExitStack

import pytest
import typer

from libs.cli.calling import UNREACHABLE, fail_unreachable
from libs.cli.stack import SERVICES
from tests.ports import free_address


def complaint(
    silent: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[dict[str, str], str]:
    """What is said while some services are silent: where each would be, and the message."""
    places = {}
    with ExitStack() as stack:
        for one in SERVICES:
            if one.name in silent:
                places[one.name] = free_address()
            else:
                server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                places[one.name] = f"127.0.0.1:{server.getsockname()[1]}"
            monkeypatch.setenv(one.variable, places[one.name])
        with pytest.raises(typer.Exit) as ended:
            fail_unreachable()
    assert ended.value.exit_code == UNREACHABLE
    return places, capsys.readouterr().err


@pytest.mark.parametrize(
    ("silent", "who"),
    [
        ({"engagement"}, "engagement does not answer at"),
        ({"profile", "notification"}, "profile and notification do not answer at"),
        ({"ingestion", "profile", "engagement", "notification"}, "No service answers at"),
    ],
    ids=len,
)
def test_only_what_is_silent_is_named(
    silent: set[str],
    who: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places, said = complaint(silent, monkeypatch, capsys)
    assert said.startswith(who)
    assert "touchline up" in said
    for one in SERVICES:
        assert (places[one.name] in said) is (one.name in silent)
        assert (one.variable in said) is (one.name in silent)


def test_a_service_of_which_one_process_is_silent_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        both = f"{free_address()}, 127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("TOUCHLINE_INGESTION", both)
        for one in SERVICES[1:]:
            monkeypatch.setenv(one.variable, free_address())
        with pytest.raises(typer.Exit):
            fail_unreachable()
    assert capsys.readouterr().err.startswith("profile and engagement and notification")
