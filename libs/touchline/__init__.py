"""Touchline's contracts, and the async client for them."""
