-- name: lock
SELECT c.projection, c.generation, c.position, c.chain, c.halt_reason,
       c.leased_until > clock_timestamp() AS is_leased,
       c.held_until > clock_timestamp() AS is_held,
       EXISTS (SELECT FROM projection_pauses p WHERE p.projection = c.projection) AS is_paused
FROM projection_checkpoints c WHERE c.generation = ANY($1)
ORDER BY c.generation, c.first_partition
FOR UPDATE OF c

-- name: hold
UPDATE projection_checkpoints SET held_at = $2, held_until = clock_timestamp() + $3::interval
WHERE generation = ANY($1)

-- name: places
SELECT projection, generation, position, chain, halt_reason,
       leased_until > clock_timestamp() AS is_leased
FROM projection_checkpoints WHERE generation = ANY($1)

-- name: release
-- Whoever locks several checkpoints does so in this order: else two would wait for each other.
WITH held AS (
    SELECT generation, first_partition FROM projection_checkpoints
    WHERE generation = ANY($1) AND held_at = $2
    ORDER BY generation, first_partition
    FOR UPDATE
)
UPDATE projection_checkpoints c SET held_until = '-infinity'
FROM held h WHERE (c.generation, c.first_partition) = (h.generation, h.first_partition)
