-- Decisions are sealed under the installation's key, which no erasure deletes: so it is known whom
-- each concerns, and what of the line it was decided by. Of those that wait from before this neither is.
ALTER TABLE outbox
    ADD COLUMN decided_at_position bigint NOT NULL DEFAULT 0,
    ADD COLUMN identity_keys bytea[] NOT NULL DEFAULT '{}';
