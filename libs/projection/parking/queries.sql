-- name: forget_parked_after
DELETE FROM parked_keys WHERE projection = $1 AND position > $2
RETURNING pg_notify('touchline_parked',
                    concat_ws(' ', '-', tenant, encode(owner_key, 'hex'), projection))

-- name: parked
SELECT tenant, owner_key FROM parked_keys WHERE projection = $1

-- name: park
INSERT INTO parked_keys (projection, tenant, owner_key, position, event_id, error)
VALUES ($1, $2, $3, $4, $5, $6)
RETURNING pg_notify('touchline_parked',
                    concat_ws(' ', '+', tenant, encode(owner_key, 'hex'), projection))

-- name: set_aside
UPDATE parked_keys p SET waiting_events = p.waiting_events + s.events
FROM unnest($2::smallint[], $3::bytea[], $4::bigint[]) AS s(tenant, owner_key, events)
WHERE p.projection = $1 AND p.tenant = s.tenant AND p.owner_key = s.owner_key

-- name: to_refold
SELECT tenant, owner_key, position FROM parked_keys
WHERE projection = $1 AND refold
ORDER BY position LIMIT 1

-- name: refolded
UPDATE parked_keys SET position = $4, waiting_events = greatest(waiting_events - $5, 0)
WHERE projection = $1 AND tenant = $2 AND owner_key = $3

-- name: unpark
DELETE FROM parked_keys WHERE projection = $1 AND tenant = $2 AND owner_key = $3
RETURNING pg_notify('touchline_parked',
                    concat_ws(' ', '-', tenant, encode(owner_key, 'hex'), projection))

-- name: failed_again
UPDATE parked_keys SET position = $4, event_id = $5, error = $6, refold = false
WHERE projection = $1 AND tenant = $2 AND owner_key = $3

-- name: ask_to_refold
UPDATE parked_keys SET refold = true
WHERE projection = $1 AND ($2::smallint IS NULL OR (tenant = $2 AND owner_key = ANY($3)))
RETURNING tenant, owner_key

-- name: parked_of
SELECT p.projection, p.tenant, p.owner_key, p.position, p.event_id, p.error, p.parked_at,
       p.waiting_events, p.refold
FROM unnest($2::smallint[], $3::bytea[]) AS k(tenant, owner_key)
JOIN parked_keys p ON p.projection = $1 AND p.tenant = k.tenant AND p.owner_key = k.owner_key
ORDER BY p.position, p.tenant, p.owner_key

-- name: list_parked
SELECT projection, tenant, owner_key, position, event_id, error, parked_at, waiting_events, refold
FROM parked_keys
WHERE tenant = ANY($1) AND (projection, position, owner_key) > ($2, $3, $4)
ORDER BY projection, position, owner_key LIMIT $5

-- name: count_parked
SELECT projection, count(*) AS keys FROM parked_keys GROUP BY projection

-- name: halt_reason
SELECT halt_reason FROM projection_checkpoints WHERE projection = $1
