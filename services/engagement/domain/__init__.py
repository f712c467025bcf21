"""What a scoring model says, what it counts, and what that comes to: no clock and no database."""
