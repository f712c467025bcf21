-- Generations: foldings of a projection into tables of their own. The first is in the schema public;
-- later ones have schemas of their own, and tables made like those of public.
CREATE TABLE projection_generations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection text NOT NULL,
    fold_version integer NOT NULL,
    schema_name text NOT NULL,
    state text NOT NULL
        CHECK (state IN ('filling', 'following', 'serving', 'retired', 'failed')),
    -- How many processes fill it, and the head when it was begun.
    workers smallint NOT NULL DEFAULT 1,
    fill_to bigint NOT NULL DEFAULT 0,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    followed_at timestamptz,
    served_at timestamptz,
    retired_at timestamptz,
    -- Of the last comparison with the one that served.
    compared_position bigint NOT NULL DEFAULT 0,
    differing_rows bigint NOT NULL DEFAULT 0,
    -- What filling it waits for, and why it failed.
    waits_for text NOT NULL DEFAULT '',
    failure text NOT NULL DEFAULT ''
);
-- One answers, and one is built, per fold version.
CREATE UNIQUE INDEX generations_serving ON projection_generations (projection, fold_version)
    WHERE state = 'serving';
CREATE UNIQUE INDEX generations_building ON projection_generations (projection, fold_version)
    WHERE state IN ('filling', 'following');
CREATE UNIQUE INDEX generations_in_public ON projection_generations (projection)
    WHERE schema_name = 'public';

INSERT INTO projection_generations (projection, fold_version, schema_name, state, followed_at, served_at)
SELECT projection, fold_version, 'public', 'serving', clock_timestamp(), clock_timestamp()
FROM projection_checkpoints ORDER BY projection;

-- A checkpoint is of a range of partitions (the owner key's first byte & 63) of a generation. While
-- `held_until` has not passed it does not move beyond `held_at`: ranges and generations meet there.
ALTER TABLE projection_checkpoints
    ADD COLUMN generation bigint REFERENCES projection_generations ON DELETE CASCADE,
    ADD COLUMN first_partition smallint NOT NULL DEFAULT 0,
    ADD COLUMN last_partition smallint NOT NULL DEFAULT 63,
    ADD COLUMN held_at bigint NOT NULL DEFAULT 0,
    ADD COLUMN held_until timestamptz NOT NULL DEFAULT '-infinity';
UPDATE projection_checkpoints c SET generation = g.id
FROM projection_generations g WHERE g.projection = c.projection;
ALTER TABLE projection_checkpoints
    ALTER COLUMN generation SET NOT NULL,
    DROP COLUMN fold_version,
    DROP CONSTRAINT projection_checkpoints_pkey,
    ADD PRIMARY KEY (generation, first_partition),
    ADD CHECK (0 <= first_partition AND first_partition <= last_partition AND last_partition <= 63);

-- An erasure that is parked concerns all partitions: they are not divided meanwhile. Whether what was
-- parked before this is one, is not known.
ALTER TABLE parked_keys
    ADD COLUMN generation bigint REFERENCES projection_generations ON DELETE CASCADE,
    ADD COLUMN is_erasure boolean NOT NULL DEFAULT true;
UPDATE parked_keys p SET generation = g.id
FROM projection_generations g WHERE g.projection = p.projection;
DELETE FROM parked_keys WHERE generation IS NULL;
ALTER TABLE parked_keys
    ALTER COLUMN generation SET NOT NULL,
    ALTER COLUMN is_erasure SET DEFAULT false,
    DROP CONSTRAINT parked_keys_pkey,
    ADD PRIMARY KEY (generation, tenant, owner_key);

-- Projections that nobody folds until they are resumed.
CREATE TABLE projection_pauses (
    projection text PRIMARY KEY,
    reason text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Processes that live: they share the ranges, and tell which fold versions are still read.
CREATE TABLE projection_workers (
    owner uuid PRIMARY KEY,
    name text NOT NULL,
    -- Whether it takes ranges of views, and reactors; the fold version of each view that it reads.
    folds boolean NOT NULL,
    reacts boolean NOT NULL,
    fold_versions jsonb NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
