"""Integration tests: parts of Touchline on real servers."""
