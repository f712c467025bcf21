"""Proves the store under faults: load, nemesis, history, and a checker that reads all back."""
