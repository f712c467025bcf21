-- name: look
-- One statement, so that all of it is of one moment.
SELECT g.id, g.projection, g.fold_version, g.schema_name, g.state, g.workers, g.fill_to, g.begun_at,
       g.followed_at, g.served_at, g.retired_at, g.compared_position, g.differing_rows, g.waits_for,
       g.failure, p.reason AS paused, c.first_partition, c.position, c.halt_reason
FROM projection_generations g
LEFT JOIN projection_checkpoints c ON c.generation = g.id
LEFT JOIN projection_pauses p ON p.projection = g.projection
ORDER BY g.id

-- name: all_parked
SELECT tenant, owner_key, generation, projection FROM parked_keys
