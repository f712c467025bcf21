"""The engagement service: how engaged customers are, and why."""
