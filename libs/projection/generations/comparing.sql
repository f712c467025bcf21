-- name: parked
SELECT tenant, encode(owner_key, 'hex') AS owner_key, position, event_id::text AS event_id
FROM parked_keys WHERE generation = $1
ORDER BY tenant, owner_key

-- name: here
SELECT min(position) AS lowest, max(position) AS highest
FROM projection_checkpoints WHERE generation = ANY($1)

-- name: standing
SELECT count(DISTINCT generation) FROM projection_checkpoints WHERE generation = ANY($1)
