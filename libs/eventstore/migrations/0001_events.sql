-- The one line of events, and its head.
CREATE TABLE events (
    position bigint PRIMARY KEY,
    tenant smallint NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL CHECK (length(owner_key) = 16),
    partition smallint NOT NULL,
    type smallint NOT NULL,
    recorded_at_us bigint NOT NULL,
    content_hash bytea NOT NULL CHECK (length(content_hash) = 32),
    chain bytea NOT NULL,
    stream_id uuid,
    stream_version bigint,
    record bytea NOT NULL,
    UNIQUE (tenant, event_id)
);
-- Ciphertext does not compress; trying costs time.
ALTER TABLE events ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX events_of_streams ON events (tenant, stream_id, stream_version)
    WHERE stream_id IS NOT NULL;
CREATE INDEX events_of_owners ON events (tenant, owner_key, position);

CREATE TABLE store_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    store_id uuid NOT NULL DEFAULT gen_random_uuid(),
    position bigint NOT NULL DEFAULT 0,
    chain bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    recorded_at_us bigint NOT NULL DEFAULT 0,
    key_check bytea
);
INSERT INTO store_head DEFAULT VALUES;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the line of events is append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'Record an event that corrects or retracts instead.';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
-- Also for a session that says it is a replica.
ALTER TABLE events ENABLE ALWAYS TRIGGER append_only;

-- One key per identity. Deleting the row is what erases the identity's events.
CREATE TABLE data_keys (
    tenant smallint NOT NULL,
    identity_key bytea NOT NULL CHECK (length(identity_key) = 16),
    wrapped_key bytea NOT NULL,
    PRIMARY KEY (tenant, identity_key)
);

-- Who relays the line into the feed. The epoch tells a leader from its zombie.
CREATE TABLE relay_lease (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder uuid,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO relay_lease DEFAULT VALUES;
