"""Answers who a customer is and what happened: the views are folds of the one line of events."""
