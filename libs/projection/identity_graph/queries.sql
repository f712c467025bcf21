-- name: add_identities
WITH added AS (
    INSERT INTO identities AS i
        (tenant, identity_key, kind, namespace_key, first_position, root_key, sealed_value, key_id,
         sealed_position)
    SELECT a.tenant, a.identity_key, a.kind, a.namespace_key, a.first_position, a.identity_key,
           -- What was erased before it was folded here was sealed under a key that is gone.
           CASE WHEN e.position > a.sealed_position THEN '' ELSE a.sealed_value END,
           CASE WHEN e.position > a.sealed_position THEN '' ELSE a.key_id END,
           greatest(a.sealed_position, e.position)
    FROM unnest($1::smallint[], $2::bytea[], $3::smallint[], $4::bytea[], $5::bigint[], $6::bytea[],
                $7::bytea[], $8::bigint[])
         AS a(tenant, identity_key, kind, namespace_key, first_position, sealed_value, key_id,
              sealed_position)
    LEFT JOIN identity_erasures e
        ON e.tenant = a.tenant AND e.identity_key = a.identity_key
            AND e.position > a.sealed_position
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
    RETURNING i.tenant, i.identity_key, old.identity_key IS NULL AS is_new,
              old.first_position > new.first_position AS is_earlier,
              old.sealed_value = '' AND new.sealed_value <> '' AS came_back
)
SELECT a.tenant, a.identity_key FROM added a
WHERE a.is_earlier OR a.came_back OR a.is_new AND EXISTS (
    SELECT FROM identity_decision_keys k
    WHERE k.tenant = a.tenant AND k.identity_key = a.identity_key)

-- name: add_edges
INSERT INTO identity_edges
    (tenant, a_key, b_key, owner_key, strength, occurred_at_us, event_id, recorded_at_us)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::smallint[],
                     $6::bigint[], $7::uuid[], $8::bigint[])

-- name: add_retractions
INSERT INTO identity_retractions (tenant, event_id, owner_key, recorded_at_us)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bytea[], $4::bigint[])
ON CONFLICT DO NOTHING

-- name: add_decisions
INSERT INTO identity_decisions
    (tenant, event_id, kind, owner_key, occurred_at_us, recorded_at_us, position, left_keys,
     right_keys, joined_keys)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: add_decision_keys
INSERT INTO identity_decision_keys (tenant, identity_key, event_id, side)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::uuid[], $4::smallint[])

-- name: add_revocations
INSERT INTO identity_revocations (tenant, event_id, revoked_by, by_merge, recorded_at_us)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::uuid[], $4::boolean[], $5::bigint[])
ON CONFLICT DO NOTHING

-- name: add_versions
INSERT INTO profile_versions AS v (tenant, root_key, version)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[])
ON CONFLICT (tenant, root_key) DO UPDATE SET version = excluded.version
    WHERE excluded.version > v.version

-- name: add_erasures
INSERT INTO identity_erasures AS e (tenant, identity_key, position, recorded_at_us)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::bigint[])
ON CONFLICT (tenant, identity_key) DO UPDATE
    SET position = excluded.position, recorded_at_us = excluded.recorded_at_us
    WHERE excluded.position > e.position

-- name: blank_identities
UPDATE identities i SET sealed_value = '', key_id = '', sealed_position = e.position
FROM unnest($1::smallint[], $2::bytea[], $3::bigint[]) AS e(tenant, identity_key, position)
WHERE i.tenant = e.tenant AND i.identity_key = e.identity_key AND i.sealed_position < e.position

-- name: tell_of_erasures
SELECT pg_notify('touchline_erased', '')

-- name: retracted_among
SELECT DISTINCT event_id FROM identity_retractions WHERE event_id = ANY($1)

-- name: pairs_of_events
-- Edges are found by their pair: a person may have very many events, and has few pairs.
SELECT DISTINCT e.tenant, e.a_key, e.b_key
FROM unnest($1::smallint[], $2::uuid[], $3::bytea[]) AS r(tenant, event_id, owner_key)
CROSS JOIN LATERAL (
    SELECT * FROM identity_links l WHERE l.tenant = r.tenant AND l.a_key = r.owner_key
    UNION ALL
    SELECT * FROM identity_links l WHERE l.tenant = r.tenant AND l.b_key = r.owner_key
) l
JOIN identity_edges e
    ON e.tenant = r.tenant AND e.a_key = l.a_key AND e.b_key = l.b_key AND e.event_id = r.event_id
-- Where another edge is the first of its pair, it stays so.
WHERE l.event_id = r.event_id AND l.strength = e.strength AND e.owner_key = r.owner_key

-- name: decisions_named
SELECT d.tenant, d.kind, d.left_keys, d.right_keys, d.joined_keys
FROM unnest($1::smallint[], $2::uuid[]) AS n(tenant, event_id)
JOIN identity_decisions d ON d.tenant = n.tenant AND d.event_id = n.event_id

-- name: link_first
INSERT INTO identity_links AS l (tenant, a_key, b_key, strength, occurred_at_us, event_id)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::smallint[], $5::bigint[],
                     $6::uuid[])
ON CONFLICT (tenant, a_key, b_key, strength) DO UPDATE
    SET occurred_at_us = excluded.occurred_at_us, event_id = excluded.event_id
    WHERE l.event_id IS NULL
        OR (excluded.occurred_at_us, excluded.event_id) < (l.occurred_at_us, l.event_id)
RETURNING tenant, a_key, b_key

-- name: link_anew
INSERT INTO identity_links AS l (tenant, a_key, b_key, strength, occurred_at_us, event_id)
SELECT p.tenant, p.a_key, p.b_key, e.strength, f.occurred_at_us, f.event_id
FROM unnest($1::smallint[], $2::bytea[], $3::bytea[]) AS p(tenant, a_key, b_key)
CROSS JOIN LATERAL (
    SELECT DISTINCT e.strength FROM identity_edges e
    WHERE e.tenant = p.tenant AND e.a_key = p.a_key AND e.b_key = p.b_key
) e
LEFT JOIN LATERAL (
    SELECT f.occurred_at_us, f.event_id FROM identity_edges f
    WHERE f.tenant = p.tenant AND f.a_key = p.a_key AND f.b_key = p.b_key
        AND f.strength = e.strength
        AND NOT EXISTS (
            SELECT FROM identity_retractions r
            WHERE r.tenant = f.tenant AND r.event_id = f.event_id AND r.owner_key = f.owner_key)
        AND (f.strength > 0 OR NOT EXISTS (
            SELECT FROM identity_revocations r
            WHERE r.tenant = f.tenant AND r.event_id = f.event_id AND NOT r.by_merge))
    ORDER BY f.occurred_at_us, f.event_id
    LIMIT 1
) f ON true
ON CONFLICT (tenant, a_key, b_key, strength) DO UPDATE
    SET occurred_at_us = excluded.occurred_at_us, event_id = excluded.event_id
    WHERE l.event_id IS DISTINCT FROM excluded.event_id
RETURNING tenant, a_key, b_key

-- name: neighbours
-- Key by key: without statistics a tenant seems to have a row in two hundred, whatever it has, and
-- an index would be read from end to end rather than for each of a few keys.
SELECT n.a_key, n.b_key, n.strength, n.occurred_at_us, n.event_id
FROM unnest($2::bytea[]) AS k(key)
CROSS JOIN LATERAL (
    SELECT * FROM identity_links l WHERE l.tenant = $1 AND l.a_key = k.key
    UNION ALL
    SELECT * FROM identity_links l WHERE l.tenant = $1 AND l.b_key = k.key
) n
WHERE $3 OR n.event_id IS NOT NULL

-- name: cluster
SELECT i.identity_key, i.kind, i.namespace_key, i.first_position, i.root_key,
       i.sealed_value <> '' AS is_open,
       EXISTS (SELECT FROM identity_decision_keys k
               WHERE k.tenant = $1 AND k.identity_key = i.identity_key) AS is_decided,
       i.root_key = i.identity_key AND EXISTS (
           SELECT FROM merge_suggestions s
           WHERE s.tenant = $1 AND s.left_root = i.identity_key) AS is_suggested
FROM identities i WHERE i.tenant = $1 AND i.identity_key = ANY($2)

-- name: cluster_decisions
SELECT d.kind, d.left_keys, d.right_keys, d.joined_keys,
       ARRAY(SELECT r.revoked_by FROM identity_revocations r
             WHERE r.tenant = d.tenant AND r.event_id = d.event_id AND r.by_merge) AS merges
FROM identity_decision_keys k
JOIN identity_decisions d ON d.tenant = k.tenant AND d.event_id = k.event_id
WHERE k.tenant = $1 AND k.identity_key = ANY($2)
    AND NOT EXISTS (
        SELECT FROM identity_revocations r
        WHERE r.tenant = d.tenant AND r.event_id = d.event_id AND NOT r.by_merge)
    AND NOT EXISTS (
        SELECT FROM identity_retractions r
        WHERE r.tenant = d.tenant AND r.event_id = d.event_id AND r.owner_key = d.owner_key)
GROUP BY d.tenant, d.event_id
HAVING count(DISTINCT k.side) > 1 OR d.joined_keys <> '{}'

-- name: merged_keys
SELECT d.event_id, d.left_keys || d.right_keys AS merged_keys
FROM identity_decisions d WHERE d.tenant = $1 AND d.event_id = ANY($2)

-- name: move
UPDATE identities i SET root_key = m.root_key
FROM unnest($2::bytea[], $3::bytea[]) AS m(identity_key, root_key)
WHERE i.tenant = $1 AND i.identity_key = m.identity_key

-- name: cluster_suggestions
SELECT s.left_root, s.right_root, s.strength, s.occurred_at_us, s.a_key, s.b_key, s.event_id
FROM merge_suggestions s
WHERE s.tenant = $1 AND s.left_root = ANY($2)

-- name: drop_suggestions
DELETE FROM merge_suggestions s
USING unnest($2::bytea[], $3::bytea[]) AS g(left_root, right_root)
WHERE s.tenant = $1 AND s.left_root = g.left_root AND s.right_root = g.right_root

-- name: put_suggestions
INSERT INTO merge_suggestions
    (tenant, left_root, right_root, strength, occurred_at_us, a_key, b_key, event_id)
SELECT $1, * FROM unnest($2::bytea[], $3::bytea[], $4::smallint[], $5::bigint[], $6::bytea[],
                         $7::bytea[], $8::uuid[])
ON CONFLICT (tenant, left_root, right_root) DO UPDATE
    SET strength = excluded.strength, occurred_at_us = excluded.occurred_at_us,
        a_key = excluded.a_key, b_key = excluded.b_key, event_id = excluded.event_id
