-- name: introduce
INSERT INTO projection_checkpoints (projection, fold_version) VALUES ($1, $2)
ON CONFLICT DO NOTHING

-- name: claim
WITH claimed AS (
    UPDATE projection_checkpoints
    SET owner = $2, epoch = epoch + 1, leased_until = clock_timestamp() + $3::interval
    WHERE projection = $1 AND (leased_until < clock_timestamp() OR owner = $2)
    RETURNING epoch, store_id, position, chain, fold_version
)
SELECT f.number, c.epoch, c.store_id, c.position, c.chain, c.fold_version
FROM projection_foldings f LEFT JOIN claimed c ON true

-- name: renew
UPDATE projection_checkpoints SET leased_until = clock_timestamp() + $3::interval
WHERE projection = $1 AND epoch = $2
RETURNING true

-- name: release
UPDATE projection_checkpoints SET leased_until = '-infinity' WHERE projection = $1 AND owner = $2

-- name: advance
UPDATE projection_checkpoints
SET store_id = $5, position = $6, chain = $7, halt_reason = '',
    leased_until = clock_timestamp() + $8::interval
WHERE projection = $1 AND epoch = $2 AND position = $3 AND chain = $4
RETURNING pg_notify('touchline_checkpoint', projection || ' ' || position)

-- name: adopt
UPDATE projection_checkpoints SET store_id = $5
WHERE projection = $1 AND epoch = $2 AND position = $3 AND chain = $4
RETURNING true

-- name: halt
UPDATE projection_checkpoints SET halt_reason = $3 WHERE projection = $1 AND epoch = $2

-- name: resume
UPDATE projection_checkpoints SET halt_reason = ''
WHERE projection = $1 AND epoch = $2 AND halt_reason <> ''

-- name: positions
SELECT projection, position, halt_reason FROM projection_checkpoints

-- name: checkpoints
SELECT projection, epoch, store_id, position, chain, halt_reason FROM projection_checkpoints

-- name: begin_anew
UPDATE projection_foldings SET number = number + 1 WHERE number = $1 RETURNING true

-- name: all_parked
SELECT projection, tenant, owner_key FROM parked_keys

-- name: graph_add_identities
WITH added AS (
    INSERT INTO identities AS i
        (tenant, identity_key, kind, namespace_key, first_position, root_key, sealed_value, key_id,
         sealed_position)
    SELECT a.tenant, a.identity_key, a.kind, a.namespace_key, a.first_position, a.identity_key,
           a.sealed_value, a.key_id, a.sealed_position
    FROM unnest($1::smallint[], $2::bytea[], $3::smallint[], $4::bytea[], $5::bigint[], $6::bytea[],
                $7::bytea[], $8::bigint[])
         AS a(tenant, identity_key, kind, namespace_key, first_position, sealed_value, key_id,
              sealed_position)
    ON CONFLICT (tenant, identity_key) DO UPDATE
        SET first_position = least(i.first_position, excluded.first_position),
            (sealed_value, key_id, sealed_position) = (
                SELECT s.sealed_value, s.key_id, s.sealed_position
                FROM (VALUES (i.sealed_value, i.key_id, i.sealed_position),
                             (excluded.sealed_value, excluded.key_id, excluded.sealed_position))
                     AS s(sealed_value, key_id, sealed_position)
                -- Of one key the first that it sealed, of two keys the later.
                ORDER BY CASE WHEN i.key_id = excluded.key_id THEN s.sealed_position
                              ELSE -s.sealed_position END
                LIMIT 1)
        WHERE excluded.first_position < i.first_position
            OR CASE WHEN i.key_id = excluded.key_id
                    THEN excluded.sealed_position < i.sealed_position
                    ELSE excluded.sealed_position > i.sealed_position END
    RETURNING i.tenant, i.identity_key, old.first_position > new.first_position AS earlier
)
SELECT tenant, identity_key FROM added WHERE earlier

-- name: graph_add_edges
INSERT INTO identity_edges
    (tenant, a_key, b_key, owner_key, strength, occurred_at_us, event_id)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::smallint[],
                     $6::bigint[], $7::uuid[])

-- name: graph_add_retractions
INSERT INTO identity_retractions (tenant, event_id, owner_key)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bytea[])
ON CONFLICT DO NOTHING

-- name: graph_edges_of_events
SELECT DISTINCT e.tenant, e.a_key, e.b_key
FROM unnest($1::smallint[], $2::uuid[], $3::bytea[]) AS r(tenant, event_id, owner_key)
JOIN LATERAL (
    SELECT * FROM identity_edges f WHERE f.tenant = r.tenant AND f.a_key = r.owner_key
    UNION ALL
    SELECT * FROM identity_edges f WHERE f.tenant = r.tenant AND f.b_key = r.owner_key
) e ON e.event_id = r.event_id AND e.owner_key = r.owner_key

-- name: graph_retracted_among
SELECT DISTINCT event_id FROM identity_retractions WHERE event_id = ANY($1)

-- name: graph_cluster
WITH RECURSIVE reached(identity_key) AS (
    SELECT unnest($2::bytea[])
    UNION
    SELECT n.identity_key
    FROM reached r CROSS JOIN LATERAL (
        SELECT e.b_key FROM identity_edges e WHERE e.tenant = $1 AND e.a_key = r.identity_key
        UNION ALL
        SELECT e.a_key FROM identity_edges e WHERE e.tenant = $1 AND e.b_key = r.identity_key
    ) AS n(identity_key)
)
SELECT i.identity_key, i.kind, i.namespace_key, i.first_position, i.root_key
FROM reached r JOIN identities i ON i.tenant = $1 AND i.identity_key = r.identity_key

-- name: graph_cluster_edges
SELECT DISTINCT ON (e.a_key, e.b_key)
    e.a_key, e.b_key, e.strength, e.occurred_at_us, e.event_id
FROM identity_edges e
WHERE e.tenant = $1 AND e.a_key = ANY($2) AND NOT EXISTS (
    SELECT FROM identity_retractions r
    WHERE r.tenant = e.tenant AND r.event_id = e.event_id AND r.owner_key = e.owner_key)
ORDER BY e.a_key, e.b_key, e.strength, e.occurred_at_us, e.event_id

-- name: graph_move
UPDATE identities i SET root_key = m.root_key
FROM unnest($2::bytea[], $3::bytea[]) AS m(identity_key, root_key)
WHERE i.tenant = $1 AND i.identity_key = m.identity_key

-- name: graph_profile
SELECT i.root_key, i.identity_key
FROM identities i
WHERE i.tenant = $1 AND i.root_key = (
    SELECT s.root_key FROM identities s WHERE s.tenant = $1 AND s.identity_key = $2)
