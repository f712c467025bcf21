"""The one line of events: PostgreSQL keeps it, NATS shares it."""
