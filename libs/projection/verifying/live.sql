-- name: try_lock
SELECT pg_try_advisory_lock($1)

-- name: copies
SELECT nspname AS name FROM pg_namespace WHERE starts_with(nspname, $1)

-- name: live_state
SELECT c.generation, g.schema_name, c.first_partition, c.position, c.chain,
       c.halt_reason, p.tenant, p.owner_key, p.position AS parked_position
FROM projection_checkpoints c
JOIN projection_generations g ON g.id = c.generation AND g.state = 'serving'
LEFT JOIN parked_keys p ON p.generation = c.generation
WHERE c.projection = $1 AND g.fold_version = $2
