"""What a service's process can be told on its command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Role(StrEnum):
    """What a process does. One on a laptop does everything; in deployments they are apart."""

    SERVE = "serve"
    """Answers calls."""

    PROJECT = "project"
    """Folds projections, and sees rebuilds through."""

    REACT = "react"
    """Folds reactors, and appends and delivers what they decide."""


ALL_ROLES: Final = frozenset(Role)
"""What a process does that is told nothing."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a process was told.

    Attributes:
        migrate: Bring the database up to date and end: `before` or `after` the release's code;
            empty: run.
        roles: What to do.
        rebuild: Fill this generation and end; 0: none.
    """

    migrate: Literal["", "before", "after"] = ""
    roles: frozenset[Role] = ALL_ROLES
    rebuild: int = 0


def read_arguments(service: str, arguments: Sequence[str], *, folds: bool = True) -> Arguments:
    """Return what a service's process was told; a wrong argument ends it with a usage text.

    Args:
        service: The service's name, for the usage text.
        arguments: Those after the program's name.
        folds: Whether the service has projections, and so roles and generations.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{service}",
        description="Settings are environment variables: docs/settings.md.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--migrate-only",
        action="store_true",
        help="bring the database up to date and end; needs TOUCHLINE_DATABASE_URL alone",
    )
    parser.add_argument(
        "--after",
        action="store_true",
        help="with --migrate-only: what only runs once no process of an older release is left",
    )
    if folds:
        parser.add_argument(
            "--roles",
            type=_roles,
            default=ALL_ROLES,
            metavar="ROLE,…",
            help=f"what the process does, of {', '.join(Role)}; all of it by default",
        )
        parser.add_argument(
            "--rebuild",
            type=_generation,
            default=0,
            metavar="GENERATION",
            help="fill a generation and end; the service itself starts such processes",
        )
    told = parser.parse_args(arguments)
    if told.after and not told.migrate_only:
        parser.error("--after goes with --migrate-only")
    if not folds:
        return Arguments(_phase(told))
    return Arguments(_phase(told), told.roles, told.rebuild)


def _phase(told: argparse.Namespace) -> Literal["", "before", "after"]:
    if not told.migrate_only:
        return ""
    return "after" if told.after else "before"


def _roles(text: str) -> frozenset[Role]:
    names = [name.strip() for name in text.split(",")]
    unknown = sorted(set(names) - set(Role))
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{', '.join(map(repr, unknown))} is no role; there are {', '.join(Role)}"
        )
    return frozenset(Role(name) for name in names)


def _generation(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no generation: they are numbers from 1")
    return int(text)
