"""What a service's process can be told on its command line."""

import argparse
from collections.abc import Sequence


def migrates_only(service: str, arguments: Sequence[str]) -> bool:
    """Return whether the process should bring its database up to date and end.

    A deployment does so before it starts the new release; a service that starts does it too, and
    then finds nothing to do.

    Args:
        service: The service's name, for the usage text.
        arguments: Those after the program's name; a wrong one ends the process with a usage text.
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
    return bool(parser.parse_args(arguments).migrate_only)
