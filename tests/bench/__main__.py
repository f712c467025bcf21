"""The command: `python -m tests.bench [--quick] [--only NAME …] | --profile-ingest`."""

import argparse

from tests.bench import profile_ingest


def main() -> None:
    """Read the arguments and do what they ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--profile-ingest", action="store_true", help="say where ingestion's time goes, by step"
    )
    arguments = parser.parse_args()
    if arguments.profile_ingest:
        profile_ingest.main()


if __name__ == "__main__":
    main()
