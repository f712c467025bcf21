"""The `touchline` command: for people at a terminal."""
