-- name: live
-- True when the process was not known.
INSERT INTO projection_workers (owner, name, folds, reacts, fold_versions)
VALUES ($1, $2, $3, $4, $5::text::jsonb)
ON CONFLICT (owner) DO UPDATE
    SET seen_at = clock_timestamp(), reacts = excluded.reacts,
        fold_versions = excluded.fold_versions
RETURNING xmax = 0 AS joined

-- name: forget_dead
DELETE FROM projection_workers WHERE seen_at < clock_timestamp() - interval '1 minute'

-- name: leave
DELETE FROM projection_workers WHERE owner = $1

-- name: living
SELECT owner, folds, reacts, fold_versions::text AS fold_versions
FROM projection_workers WHERE seen_at > clock_timestamp() - $1::interval ORDER BY owner

-- name: release_all
-- In the order in which meetings lock them.
WITH own AS (
    SELECT generation, first_partition FROM projection_checkpoints WHERE owner = $1
    ORDER BY generation, first_partition
    FOR UPDATE
)
UPDATE projection_checkpoints c SET leased_until = '-infinity'
FROM own o WHERE (c.generation, c.first_partition) = (o.generation, o.first_partition)

-- name: changed
SELECT pg_notify('touchline_generations', '')

-- name: paused
SELECT projection FROM projection_pauses

-- name: split
-- Both halves stand where the whole did; the second is free.
WITH halved AS (
    UPDATE projection_checkpoints
    SET last_partition = $4, epoch = epoch + 1
    WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND owner = $5
        AND leased_until > clock_timestamp() AND held_until <= clock_timestamp()
        AND halt_reason = ''
        AND NOT EXISTS (
            SELECT FROM parked_keys p WHERE p.generation = $1 AND p.is_erasure)
    RETURNING projection, generation, epoch, store_id, position, chain
), second AS (
    INSERT INTO projection_checkpoints
        (projection, generation, first_partition, last_partition, epoch, store_id, position, chain)
    SELECT projection, generation, $4 + 1, $3, epoch, store_id, position, chain FROM halved
    RETURNING generation, first_partition, position
)
-- Before the first half moves on, who waits knows that there is a second.
SELECT pg_notify('touchline_checkpoint', concat_ws(' ', generation, first_partition, position)),
       pg_notify('touchline_generations', '')
FROM second

-- name: lock_halves
-- In the order in which meetings lock them.
SELECT FROM projection_checkpoints WHERE generation = $1 AND first_partition IN ($2, $3)
ORDER BY first_partition
FOR UPDATE

-- name: merge_second
DELETE FROM projection_checkpoints
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND halt_reason = ''
RETURNING epoch, store_id, position, chain

-- name: merge_first
UPDATE projection_checkpoints
SET last_partition = $4, epoch = greatest(epoch, $6) + 1
WHERE generation = $1 AND first_partition = $2 AND last_partition = $3 AND owner = $5
    AND leased_until > clock_timestamp() AND halt_reason = ''
    AND store_id = $7 AND position = $8 AND chain = $9
RETURNING pg_notify('touchline_generations', '')
