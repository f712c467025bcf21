"""How notifications leave: claimed, looked at once more, sent, and recorded."""
