"""Records events: the sole owner of the event store, its relay and its NATS API."""
