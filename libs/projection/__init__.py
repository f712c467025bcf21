"""Folds the line of events into tables: exactly once, in order, and provably without a gap."""
