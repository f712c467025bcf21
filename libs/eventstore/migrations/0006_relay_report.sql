-- What the leader of the relay says of the feed, so that every process can tell: how far it came, and
-- why it could not go on. Empty: nothing is wrong.
ALTER TABLE relay_lease
    ADD COLUMN position bigint NOT NULL DEFAULT 0,
    ADD COLUMN problem text NOT NULL DEFAULT '';
