-- What set, changed and ended expectations, sealed as the store keeps it. An expectation is found by
-- the keyed hash of its id; `outcome` is touchline.events.v1.ExpectationOutcome, 0 when it was set.
CREATE TABLE expectation_tellings (
    tenant smallint NOT NULL,
    expectation_key bytea NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL,
    position bigint NOT NULL,
    occurred_at_us bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    outcome smallint NOT NULL,
    due_at_us bigint NOT NULL,
    by_deadline boolean NOT NULL,
    historical boolean NOT NULL,
    team_key bytea,
    answers uuid,
    record bytea NOT NULL,
    PRIMARY KEY (tenant, expectation_key, event_id)
);
ALTER TABLE expectation_tellings ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX expectation_tellings_by_event ON expectation_tellings (tenant, event_id);

-- Events that no longer count, whether or not they have arrived.
CREATE TABLE expectation_retractions (
    tenant smallint NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL,
    PRIMARY KEY (tenant, event_id, owner_key)
);

-- How each expectation stands by its tellings, whose events are named. `kept_due_us` and
-- `broken_due_us` are the deadlines of which it was decided that they were met or missed: such a
-- decision may still be on its way to the line. `breakable` and `answerable` say what the fold says;
-- `watched` and `awaiting`, whether it is still to be decided.
CREATE TABLE expectations (
    tenant smallint NOT NULL,
    expectation_key bytea NOT NULL,
    owner_key bytea NOT NULL,
    state smallint NOT NULL,
    due_at_us bigint NOT NULL,
    since_us bigint NOT NULL,
    team_key bytea,
    answers uuid,
    first_event_id uuid NOT NULL,
    content_event_id uuid NOT NULL,
    due_event_id uuid NOT NULL,
    ended_event_id uuid,
    said_event_id uuid,
    remark smallint NOT NULL,
    breakable boolean NOT NULL,
    answerable boolean NOT NULL,
    kept_due_us bigint,
    broken_due_us bigint,
    watched boolean GENERATED ALWAYS AS (
        breakable AND kept_due_us IS DISTINCT FROM due_at_us
        AND broken_due_us IS DISTINCT FROM due_at_us) STORED,
    awaiting boolean GENERATED ALWAYS AS (
        answerable AND answers IS NOT NULL AND kept_due_us IS DISTINCT FROM due_at_us) STORED,
    PRIMARY KEY (tenant, expectation_key)
);
CREATE INDEX expectations_listed ON expectations (tenant, due_at_us, expectation_key);
CREATE INDEX expectations_of_customers ON expectations (tenant, owner_key);
CREATE INDEX expectations_watched ON expectations (due_at_us) WHERE watched;
CREATE INDEX expectations_awaiting ON expectations (tenant, owner_key) WHERE awaiting;

-- The latest version of each promise that an employee gave. Its stream's key is the expectation's.
CREATE TABLE promise_versions (
    tenant smallint NOT NULL,
    expectation_key bytea NOT NULL,
    version integer NOT NULL,
    PRIMARY KEY (tenant, expectation_key)
);
