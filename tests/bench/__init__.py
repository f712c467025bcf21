"""Measures what the issue asks for, against real servers and services: `python -m tests.bench`."""
