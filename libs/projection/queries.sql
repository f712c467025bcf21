-- name: claim
-- A row in any case: how often everything was folded anew, whether the range still exists, and its
-- checkpoint if it is the process's own now.
WITH claimed AS (
    UPDATE projection_checkpoints
    SET owner = $4, epoch = epoch + 1, leased_until = clock_timestamp() + $5::interval
    WHERE generation = $1 AND first_partition = $2 AND last_partition = $3
        AND (leased_until < clock_timestamp() OR owner = $4)
    RETURNING epoch, store_id, position, chain
)
SELECT f.number, EXISTS (
           SELECT FROM projection_checkpoints r JOIN projection_generations g ON g.id = r.generation
           WHERE r.generation = $1 AND r.first_partition = $2 AND r.last_partition = $3
               AND g.state <> 'failed') AS is_there,
       c.epoch, c.store_id, c.position, c.chain
FROM projection_foldings f LEFT JOIN claimed c ON true

-- name: renew
UPDATE projection_checkpoints SET leased_until = clock_timestamp() + $5::interval
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND epoch = $4
RETURNING true

-- name: release
UPDATE projection_checkpoints SET leased_until = '-infinity'
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND owner = $4

-- name: advance
UPDATE projection_checkpoints
SET store_id = $7, position = $8, chain = $9, halt_reason = '',
    leased_until = clock_timestamp() + $10::interval
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3
    AND epoch = $4 AND position = $5 AND chain = $6
    AND (held_until <= clock_timestamp() OR $8 <= held_at)
RETURNING pg_notify('touchline_checkpoint', concat_ws(' ', generation, first_partition, position))

-- name: held_at
-- Of a checkpoint that stands where its owner left it.
SELECT held_at FROM projection_checkpoints
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3
    AND epoch = $4 AND position = $5 AND chain = $6

-- name: hold
SELECT CASE WHEN held_until > clock_timestamp() THEN held_at END AS held_at
FROM projection_checkpoints
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND epoch = $4

-- name: adopt
UPDATE projection_checkpoints SET store_id = $7
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3
    AND epoch = $4 AND position = $5 AND chain = $6
RETURNING true

-- name: halt
UPDATE projection_checkpoints SET halt_reason = $5
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND epoch = $4

-- name: resume
UPDATE projection_checkpoints SET halt_reason = ''
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND epoch = $4
    AND halt_reason <> ''

-- name: ranges
SELECT projection, generation, first_partition, last_partition, epoch, store_id, position, chain,
       halt_reason, owner, leased_until > clock_timestamp() AS leased,
       held_until > clock_timestamp() AS held,
       EXISTS (
           SELECT FROM parked_keys p WHERE p.generation = c.generation AND p.is_erasure) AS erasure
FROM projection_checkpoints c ORDER BY generation, first_partition

-- name: folding
SELECT number FROM projection_foldings

-- name: begin_anew
UPDATE projection_foldings SET number = number + 1 WHERE number = $1 RETURNING true

-- name: schemas_of_generations
-- Also those whose generation is not noted any more.
SELECT nspname AS name FROM pg_namespace WHERE nspname ~ '^generation_[0-9]+$'

-- name: graph_profile
SELECT i.root_key, i.identity_key
FROM identities i
WHERE i.tenant = $1 AND i.root_key = (
    SELECT s.root_key FROM identities s WHERE s.tenant = $1 AND s.identity_key = $2)
