-- name: begin
INSERT INTO projection_generations (projection, fold_version, schema_name, state, workers, fill_to)
VALUES ($1, $2, '', 'filling', $3, $4)
RETURNING id

-- name: name_schema
UPDATE projection_generations SET schema_name = $2 WHERE id = $1

-- name: add_ranges
INSERT INTO projection_checkpoints (projection, generation, first_partition, last_partition)
SELECT $1, $2, * FROM unnest($3::smallint[], $4::smallint[])

-- name: forget_failed
DELETE FROM projection_generations
WHERE projection = $1 AND fold_version = $2 AND state = 'failed'

-- name: building
SELECT id FROM projection_generations
WHERE projection = $1 AND fold_version = $2 AND state IN ('filling', 'following')

-- name: tell
SELECT pg_notify('touchline_generations', '')

-- name: follow
UPDATE projection_generations
SET state = 'following', followed_at = clock_timestamp(), waits_for = ''
WHERE id = $1 AND state = 'filling'
RETURNING id

-- name: fail
UPDATE projection_generations SET state = 'failed', failure = $2, waits_for = ''
WHERE id = $1 AND state = 'filling'
RETURNING schema_name

-- name: wait
UPDATE projection_generations SET waits_for = $2 WHERE id = $1 AND waits_for <> $2

-- name: serve_first
-- Nothing of its fold version answers yet, so there is nothing to compare it with.
UPDATE projection_generations g SET state = 'serving', served_at = clock_timestamp()
WHERE g.id = $1 AND g.state = 'following' AND NOT EXISTS (
    SELECT FROM projection_generations s
    WHERE s.projection = g.projection AND s.fold_version = g.fold_version AND s.state = 'serving')
RETURNING g.id

-- name: lock_places
SELECT generation, position FROM projection_checkpoints
WHERE generation = ANY($1)
ORDER BY generation, first_partition
FOR UPDATE

-- name: is_halted
SELECT EXISTS (
    SELECT FROM projection_checkpoints WHERE generation = $1 AND halt_reason <> '')

-- name: retire
UPDATE projection_generations SET state = 'retired', retired_at = clock_timestamp()
WHERE id = $1 AND state = 'serving'
RETURNING id

-- name: serve
UPDATE projection_generations SET state = 'serving', served_at = clock_timestamp(), retired_at = NULL
WHERE id = $1 AND state = $2
RETURNING id

-- name: remember
UPDATE projection_generations SET compared_position = $2, differing_rows = $3 WHERE id = $1

-- name: forget
DELETE FROM projection_generations WHERE id = $1

-- name: drop_ranges
-- Locked by `lock_places` before.
DELETE FROM projection_checkpoints WHERE generation = $1

-- name: drop_parked
DELETE FROM parked_keys WHERE generation = $1
RETURNING pg_notify('touchline_parked',
    concat_ws(' ', '-', tenant, encode(owner_key, 'hex'), generation, projection))

-- name: give_up
UPDATE projection_generations SET state = 'retired', retired_at = clock_timestamp() WHERE id = $1

-- name: lock
SELECT state FROM projection_generations WHERE id = $1 FOR UPDATE

-- name: is_heard_in
-- Every process hears of a switch when it is told, and at the latest when it looks again.
SELECT greatest(0, extract(epoch FROM retired_at + $2::interval - clock_timestamp()))::float8
FROM projection_generations
WHERE id = $1 AND state = 'retired'

-- name: pause
INSERT INTO projection_pauses (projection, reason) VALUES ($1, $2)
ON CONFLICT (projection) DO UPDATE SET reason = excluded.reason

-- name: resume
DELETE FROM projection_pauses WHERE projection = $1
