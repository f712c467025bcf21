-- name: decide
INSERT INTO outbox (reactor, tenant, event_id, sealed, traceparent)
SELECT $1, d.tenant, d.event_id, d.sealed, $5
FROM unnest($2::text[], $3::uuid[], $4::bytea[]) WITH ORDINALITY
     AS d(tenant, event_id, sealed, number)
ORDER BY d.number
ON CONFLICT DO NOTHING

-- name: announce
SELECT pg_notify('touchline_outbox', ''), set_config('synchronous_commit', 'on', true)

-- name: lead
UPDATE outbox_sender SET owner = $1, leased_until = clock_timestamp() + $2::interval
WHERE leased_until < clock_timestamp() OR owner = $1
RETURNING true

-- name: release
UPDATE outbox_sender SET leased_until = '-infinity' WHERE owner = $1

-- name: reached
SELECT count(*) FROM projection_checkpoints
WHERE projection = ANY($1) AND position >= $2 AND (store_id = $3 OR position = 0)

-- name: next
SELECT id, reactor, tenant, event_id, sealed, traceparent, attempts
FROM (
    SELECT *, sum(octet_length(sealed)) OVER (ORDER BY id) AS bytes
    FROM (
        SELECT * FROM outbox
        WHERE state = 'waiting' AND due_at <= clock_timestamp()
        ORDER BY id LIMIT $1
    ) AS due
) AS sized
WHERE bytes <= $2 OR bytes = octet_length(sealed)
ORDER BY id

-- name: done
DELETE FROM outbox WHERE id = ANY($1)

-- name: dead
UPDATE outbox SET state = 'dead', attempts = attempts + 1, detail = d.detail
FROM unnest($1::bigint[], $2::text[]) AS d(id, detail) WHERE outbox.id = d.id

-- name: postpone
UPDATE outbox
SET attempts = attempts + 1, due_at = clock_timestamp() + $2::interval, detail = $3
WHERE id = $1

-- name: measure
SELECT count(*) FILTER (WHERE state = 'waiting'),
       coalesce(extract(epoch FROM min(created_at) FILTER (WHERE state = 'waiting')), 0)::float8,
       count(*) FILTER (WHERE state = 'dead')
FROM outbox
