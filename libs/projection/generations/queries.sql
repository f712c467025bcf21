-- name: generations
SELECT id, projection, fold_version, schema_name, state, workers, fill_to, begun_at, followed_at,
       served_at, retired_at, compared_position, differing_rows, waits_for, failure
FROM projection_generations ORDER BY id

-- name: introduce
-- The first generation of a projection answers from the start: there is nothing to compare it with.
WITH introduced AS (
    INSERT INTO projection_generations
        (projection, fold_version, schema_name, state, followed_at, served_at)
    SELECT $1, $2, 'public', 'serving', clock_timestamp(), clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM projection_generations WHERE projection = $1)
    ON CONFLICT DO NOTHING
    RETURNING id
), empty AS (
    -- Its checkpoint was deleted by hand, as it is to be when its tables were emptied so.
    SELECT id FROM projection_generations g
    WHERE projection = $1 AND fold_version = $2 AND schema_name = 'public' AND state = 'serving'
        AND NOT EXISTS (SELECT FROM projection_checkpoints c WHERE c.generation = g.id)
), checkpoint AS (
    INSERT INTO projection_checkpoints (projection, generation)
    SELECT $1, id FROM introduced UNION ALL SELECT $1, id FROM empty
    ON CONFLICT DO NOTHING
    RETURNING generation
)
SELECT pg_notify('touchline_generations', '') FROM checkpoint

-- name: serving
SELECT id, projection, fold_version, schema_name, state, workers, fill_to, begun_at, followed_at,
       served_at, retired_at, compared_position, differing_rows, waits_for, failure
FROM projection_generations WHERE projection = $1 AND fold_version = $2 AND state = 'serving'
