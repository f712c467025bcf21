-- name: identities
-- Of an erasure of a time range they stay as they are.
SELECT count(*) FILTER (WHERE sealed_value <> '' AND sealed_position < $3
                            AND $4 < -4611686018427387903 AND $5 > 4611686018427387903) AS "left",
       count(*) FILTER (WHERE sealed_value = '') AS shut
FROM identities WHERE tenant = $1 AND identity_key = ANY($2)

-- name: identity_links
-- Keyed hashes: which of them are one person, and not who.
SELECT 0::bigint AS "left", count(*) AS shut
FROM (
    SELECT l.a_key, l.b_key, l.strength FROM identity_links l
    WHERE l.tenant = $1 AND l.a_key = ANY($2)
    UNION
    SELECT l.a_key, l.b_key, l.strength FROM identity_links l
    WHERE l.tenant = $1 AND l.b_key = ANY($2)
) AS linked

-- name: identity_decisions
SELECT 0::bigint AS "left", count(DISTINCT event_id) AS shut
FROM identity_decision_keys WHERE tenant = $1 AND identity_key = ANY($2)

-- name: parked_keys
-- Errors quote nothing that an event says.
SELECT 0::bigint AS "left", count(*) AS shut
FROM parked_keys WHERE tenant = $1 AND owner_key = ANY($2)

-- name: outbox
SELECT count(*) FROM outbox
WHERE tenant = $1 AND identity_keys && $2::bytea[] AND decided_at_position < $3

-- name: came_back
SELECT identity_key FROM identities
WHERE tenant = $1 AND identity_key = ANY($2) AND sealed_value <> '' AND sealed_position > $3
