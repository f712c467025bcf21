"""The four services. None imports another; they share the line of events over NATS."""
