"""What the terminal shows: pure functions from messages to rich renderables."""
