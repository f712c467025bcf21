-- The published versions of the scoring models, as their aggregates say.
CREATE TABLE models (
    tenant smallint NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    -- Names the version within this database, since a position is nobody else's.
    position bigint NOT NULL UNIQUE,
    definition text NOT NULL,
    published_at_us bigint NOT NULL,
    published_by text NOT NULL,
    PRIMARY KEY (tenant, name, version)
);

-- Which version answers, and which one did before. No view: it says how far the others have come.
CREATE TABLE serving_models (
    tenant smallint NOT NULL,
    name text NOT NULL,
    scoring bigint NOT NULL,
    previous bigint,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, name)
);

-- What counts: an event for each rule that it matches. `scoring` is the position of the model's
-- version, and `rule` the rule's place in it.
CREATE TABLE contributions (
    scoring bigint NOT NULL,
    owner_key bytea NOT NULL,
    event_id uuid NOT NULL,
    rule smallint NOT NULL,
    type smallint NOT NULL,
    occurred_at_us bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (scoring, owner_key, event_id, rule)
);

-- Events that no longer count, whether or not they have arrived; the first retraction of each.
CREATE TABLE score_retractions (
    scoring bigint NOT NULL,
    owner_key bytea NOT NULL,
    event_id uuid NOT NULL,
    recorded_at_us bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (scoring, owner_key, event_id)
);

-- What contributions that were not retracted add up to, in thousandths of a point. Additive, so a
-- profile's are those of its identities, before and after a merge. No row is 0.
CREATE TABLE day_sums (
    scoring bigint NOT NULL,
    owner_key bytea NOT NULL,
    rule smallint NOT NULL,
    day integer NOT NULL,
    weight bigint NOT NULL,
    PRIMARY KEY (scoring, owner_key, rule, day)
);
