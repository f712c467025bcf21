-- Events that break a rule, sealed and kept until they are corrected or purged.
CREATE TABLE rejected_events (
    rejected_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant smallint NOT NULL,
    content_hash bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    violations jsonb NOT NULL,
    sealed_event bytea NOT NULL,
    -- The same event sent again is kept once.
    UNIQUE (tenant, content_hash)
);
GRANT SELECT, INSERT, DELETE ON rejected_events TO touchline_store;
