"""End-to-end tests: an installation as a person runs it."""
