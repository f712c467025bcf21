-- Databases of before the timeline was shared have its tables already.

-- Each event under the identity that owns it, sealed as the store keeps it: what is personal is
-- opened on reading, so erasing a key erases it here as well.
CREATE TABLE IF NOT EXISTS timeline (
    tenant smallint NOT NULL,
    owner_key bytea NOT NULL,
    occurred_at_us bigint NOT NULL,
    event_id uuid NOT NULL,
    position bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    type smallint NOT NULL,
    channel smallint NOT NULL,
    direction smallint NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (tenant, owner_key, occurred_at_us, event_id)
);
ALTER TABLE timeline ALTER COLUMN record SET STORAGE EXTERNAL;
-- Rows arrive in the order of positions: this index costs next to nothing, and serves watchers.
CREATE INDEX IF NOT EXISTS timeline_positions ON timeline USING brin (position) WITH (pages_per_range = 32);

-- Events that no longer count, whether or not they have arrived.
CREATE TABLE IF NOT EXISTS timeline_retractions (
    tenant smallint NOT NULL,
    owner_key bytea NOT NULL,
    event_id uuid NOT NULL,
    recorded_at_us bigint NOT NULL,
    PRIMARY KEY (tenant, owner_key, event_id, recorded_at_us)
);
