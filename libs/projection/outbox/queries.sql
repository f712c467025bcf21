-- name: decide
INSERT INTO outbox
    (reactor, tenant, event_id, sealed, traceparent, decided_at_position, identity_keys)
SELECT $1, d.tenant, d.event_id, d.sealed, $2, d.decided_at_position,
       ARRAY(SELECT substr(d.identity_keys, place, 16)
             FROM generate_series(1, length(d.identity_keys), 16) AS place)
FROM unnest($3::text[], $4::uuid[], $5::bytea[], $6::bigint[], $7::bytea[]) WITH ORDINALITY
     AS d(tenant, event_id, sealed, decided_at_position, identity_keys, number)
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
-- Of each projection every range of the generation that this release reads.
SELECT coalesce(bool_and(EXISTS (
    SELECT FROM projection_generations g
    WHERE g.projection = w.name AND g.fold_version = coalesce(w.version, g.fold_version)
        AND g.state = 'serving' AND NOT EXISTS (
            SELECT FROM projection_checkpoints c
            WHERE c.generation = g.id
                AND (c.position < $3 OR (c.store_id <> $4 AND c.position > 0)))
        AND EXISTS (SELECT FROM projection_checkpoints c WHERE c.generation = g.id))), true)
FROM unnest($1::text[], $2::integer[]) AS w(name, version)

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

-- name: forget
DELETE FROM outbox
WHERE tenant = $1 AND identity_keys && $2::bytea[] AND decided_at_position < $3

-- name: unnamed
SELECT id, event_id, sealed FROM outbox WHERE tenant = $1 AND identity_keys = '{}'

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
