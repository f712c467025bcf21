-- Every published version of every rule, folded from the aggregates `rules`. They hold nothing of
-- customers. An event at a position is judged by the versions published before it.
CREATE TABLE rules (
    tenant smallint NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    position bigint NOT NULL,
    published_at_us bigint NOT NULL,
    published_by text NOT NULL,
    definition bytea NOT NULL,
    PRIMARY KEY (tenant, name, version)
);

-- What rules know of a customer, without reading everything that ever happened: learned traits,
-- consents and crossed scores are few among the events of a profile.
CREATE INDEX timeline_known ON timeline (tenant, owner_key, type, occurred_at_us, event_id)
    WHERE type IN (26, 27, 37);
-- Somebody asks why an event told nobody, and knows its id alone.
CREATE INDEX timeline_events ON timeline (tenant, event_id);
