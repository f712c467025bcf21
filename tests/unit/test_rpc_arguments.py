"""What a service's process may be told, and what it says to the rest."""

import pytest

from libs.rpc.arguments import ALL_ROLES, Arguments, Role, read_arguments


@pytest.mark.parametrize(
    ("told", "understood"),
    [
        ("", Arguments("", ALL_ROLES, 0)),
        ("--roles serve", Arguments("", frozenset({Role.SERVE}), 0)),
        ("--roles project,react", Arguments("", frozenset({Role.PROJECT, Role.REACT}), 0)),
        ("--migrate-only", Arguments("before", ALL_ROLES, 0)),
        ("--migrate-only --after", Arguments("after", ALL_ROLES, 0)),
        ("--rebuild 14", Arguments("", ALL_ROLES, 14)),
    ],
)
def test_what_is_told_is_understood(told: str, understood: Arguments) -> None:
    assert read_arguments("profile", told.split()) == understood


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("--roles serve,fly", "'fly' is no role; there are serve, project, react"),
        ("--roles serve,", "'' is no role"),
        ("--after", "--after goes with --migrate-only"),
        ("--rebuild 0", "'0' is no generation: they are numbers from 1"),
        ("--rebuild timeline", "'timeline' is no generation"),
        ("--role serve", "unrecognized arguments: --role serve"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_begins(
    capsys: pytest.CaptureFixture[str], told: str, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_arguments("profile", told.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("told", ["--roles serve", "--rebuild 1"])
def test_who_folds_nothing_has_neither_roles_nor_generations(
    capsys: pytest.CaptureFixture[str], told: str
) -> None:
    assert read_arguments("ingestion", ["--migrate-only", "--after"], folds=False).migrate
    with pytest.raises(SystemExit):
        read_arguments("ingestion", told.split(), folds=False)
    assert "unrecognized arguments" in capsys.readouterr().err
