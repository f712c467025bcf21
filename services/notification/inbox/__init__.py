"""What was decided to tell: inboxes, what was read, and what became of it."""
