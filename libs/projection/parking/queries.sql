-- name: forget_parked_after
DELETE FROM parked_keys
WHERE generation = $1 AND position > $4
    AND CASE owner_key WHEN '' THEN 0 ELSE get_byte(owner_key, 0) & 63 END BETWEEN $2 AND $3
RETURNING pg_notify('touchline_parked',
                    concat_ws(' ', '-', tenant, encode(owner_key, 'hex'), generation, projection))

-- name: parked
SELECT tenant, owner_key FROM parked_keys
WHERE generation = $1
    AND CASE owner_key WHEN '' THEN 0 ELSE get_byte(owner_key, 0) & 63 END BETWEEN $2 AND $3

-- name: park
INSERT INTO parked_keys
    (generation, projection, tenant, owner_key, position, event_id, error, is_erasure)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING pg_notify('touchline_parked',
                    concat_ws(' ', '+', tenant, encode(owner_key, 'hex'), generation, projection))

-- name: set_aside
UPDATE parked_keys p SET waiting_events = p.waiting_events + s.events
FROM unnest($2::smallint[], $3::bytea[], $4::bigint[]) AS s(tenant, owner_key, events)
WHERE p.generation = $1 AND p.tenant = s.tenant AND p.owner_key = s.owner_key

-- name: to_refold
SELECT tenant, owner_key, position FROM parked_keys
WHERE generation = $1 AND refold
    AND CASE owner_key WHEN '' THEN 0 ELSE get_byte(owner_key, 0) & 63 END BETWEEN $2 AND $3
ORDER BY position LIMIT 1

-- name: refolded
UPDATE parked_keys SET position = $4, waiting_events = greatest(waiting_events - $5, 0)
WHERE generation = $1 AND tenant = $2 AND owner_key = $3

-- name: unpark
DELETE FROM parked_keys WHERE generation = $1 AND tenant = $2 AND owner_key = $3
RETURNING pg_notify('touchline_parked',
                    concat_ws(' ', '-', tenant, encode(owner_key, 'hex'), generation, projection))

-- name: failed_again
UPDATE parked_keys SET position = $4, event_id = $5, error = $6, refold = false
WHERE generation = $1 AND tenant = $2 AND owner_key = $3

-- name: ask_to_refold
UPDATE parked_keys p SET refold = true
FROM projection_generations g
WHERE p.projection = $1 AND ($2::smallint IS NULL OR (p.tenant = $2 AND p.owner_key = ANY($3)))
    AND g.id = p.generation AND g.state = 'serving'
RETURNING p.tenant, p.owner_key

-- name: parked_of
-- Nobody may fold the generation of an older release any more: what it has parked is not waited for.
SELECT projection, tenant, owner_key, position, event_id, error, parked_at, waiting_events, refold
FROM (
    SELECT DISTINCT ON (p.tenant, p.owner_key)
           p.projection, p.tenant, p.owner_key, p.position, p.event_id, p.error, p.parked_at,
           p.waiting_events, p.refold AND (NOT EXISTS (
               SELECT FROM projection_generations n
               WHERE n.projection = p.projection AND n.state = 'serving' AND n.id > p.generation
           ) OR EXISTS (
               SELECT FROM projection_checkpoints c
               WHERE c.generation = p.generation AND c.leased_until > clock_timestamp()
           )) AS refold
    FROM unnest($2::smallint[], $3::bytea[]) AS k(tenant, owner_key)
    JOIN parked_keys p ON p.projection = $1 AND p.tenant = k.tenant AND p.owner_key = k.owner_key
    JOIN projection_generations g ON g.id = p.generation AND g.state = 'serving'
    ORDER BY p.tenant, p.owner_key, refold DESC, p.generation DESC
) AS parked
ORDER BY position, tenant, owner_key

-- name: list_parked
-- What two releases side by side have both parked is listed once.
SELECT DISTINCT ON (p.projection, p.position, p.owner_key)
       p.projection, p.tenant, p.owner_key, p.position, p.event_id, p.error, p.parked_at,
       p.waiting_events, p.refold
FROM parked_keys p JOIN projection_generations g ON g.id = p.generation AND g.state = 'serving'
WHERE p.tenant = ANY($1) AND (p.projection, p.position, p.owner_key) > ($2, $3, $4)
ORDER BY p.projection, p.position, p.owner_key, p.generation DESC LIMIT $5

-- name: count_parked
SELECT generation, count(*) AS keys FROM parked_keys GROUP BY generation

-- name: halt_reason
SELECT c.halt_reason
FROM projection_checkpoints c
JOIN projection_generations g ON g.id = c.generation AND g.state = 'serving'
WHERE c.projection = $1 AND c.halt_reason <> '' LIMIT 1
