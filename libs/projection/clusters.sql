-- name: nodes
SELECT i.identity_key, i.kind, i.namespace_key, i.first_position
FROM identities i WHERE i.tenant = $1 AND i.identity_key = ANY($2)
ORDER BY i.first_position, i.identity_key

-- name: links_as_of
SELECT DISTINCT ON (e.a_key, e.b_key)
    e.a_key, e.b_key, e.strength, e.occurred_at_us, e.event_id
FROM identity_edges e
WHERE e.tenant = $1 AND e.a_key = ANY($2) AND e.strength > 0
    AND e.occurred_at_us <= $3 AND e.recorded_at_us <= $3
    AND NOT EXISTS (
        SELECT FROM identity_retractions r
        WHERE r.tenant = e.tenant AND r.event_id = e.event_id AND r.owner_key = e.owner_key
            AND r.recorded_at_us <= $3)
ORDER BY e.a_key, e.b_key, e.strength, e.occurred_at_us, e.event_id

-- name: decisions_naming
SELECT DISTINCT k.event_id FROM identity_decision_keys k
WHERE k.tenant = $1 AND k.identity_key = ANY($2)

-- name: decisions
SELECT d.event_id, d.kind, d.owner_key, d.occurred_at_us, d.recorded_at_us, d.position,
       d.left_keys, d.right_keys, d.joined_keys
FROM identity_decisions d
WHERE d.tenant = $1 AND d.event_id = ANY($2) AND d.occurred_at_us <= $3 AND d.recorded_at_us <= $3
ORDER BY d.position

-- name: revocations
SELECT r.event_id, r.revoked_by, r.by_merge FROM identity_revocations r
WHERE r.tenant = $1 AND r.event_id = ANY($2) AND r.recorded_at_us <= $3

-- name: retractions
SELECT r.event_id, r.owner_key FROM identity_retractions r
WHERE r.tenant = $1 AND r.event_id = ANY($2) AND r.recorded_at_us <= $3

-- name: merged_keys
SELECT d.event_id, d.left_keys || d.right_keys AS merged_keys
FROM identity_decisions d WHERE d.tenant = $1 AND d.event_id = ANY($2)

-- name: count_events
SELECT e.a_key, e.b_key, count(*) AS events
FROM unnest($2::bytea[], $3::bytea[]) AS p(a_key, b_key)
JOIN identity_edges e ON e.tenant = $1 AND e.a_key = p.a_key AND e.b_key = p.b_key
WHERE e.strength > 0 AND e.occurred_at_us <= $4 AND e.recorded_at_us <= $4
    AND NOT EXISTS (
        SELECT FROM identity_retractions r
        WHERE r.tenant = e.tenant AND r.event_id = e.event_id AND r.owner_key = e.owner_key
            AND r.recorded_at_us <= $4)
GROUP BY e.a_key, e.b_key

-- name: suggestions
SELECT s.left_root, s.right_root, s.strength, s.occurred_at_us, s.a_key, s.b_key, s.event_id
FROM merge_suggestions s
WHERE s.tenant = $1 AND (s.strength, s.occurred_at_us, s.a_key, s.b_key) > ($2, $3, $4, $5)
ORDER BY s.strength, s.occurred_at_us, s.a_key, s.b_key
LIMIT $6

-- name: suggestions_of
SELECT * FROM (
    SELECT s.left_root, s.right_root, s.strength, s.occurred_at_us, s.a_key, s.b_key, s.event_id
    FROM merge_suggestions s WHERE s.tenant = $1 AND s.left_root = $7
    UNION ALL
    SELECT s.left_root, s.right_root, s.strength, s.occurred_at_us, s.a_key, s.b_key, s.event_id
    FROM merge_suggestions s WHERE s.tenant = $1 AND s.right_root = $7
) s
WHERE (s.strength, s.occurred_at_us, s.a_key, s.b_key) > ($2, $3, $4, $5)
ORDER BY s.strength, s.occurred_at_us, s.a_key, s.b_key
LIMIT $6

-- name: links_between
SELECT l.a_key, l.b_key, l.strength, l.occurred_at_us, l.event_id, count(*) OVER () AS links
FROM (
    SELECT * FROM identity_links l
    WHERE l.tenant = $1 AND l.a_key = ANY($2) AND l.b_key = ANY($3)
    UNION ALL
    SELECT * FROM identity_links l
    WHERE l.tenant = $1 AND l.a_key = ANY($3) AND l.b_key = ANY($2)
) l
WHERE l.strength > 0 AND l.event_id IS NOT NULL
ORDER BY l.strength, l.occurred_at_us, l.event_id, l.a_key, l.b_key
LIMIT $4

-- name: versions
SELECT v.root_key, v.version FROM profile_versions v WHERE v.tenant = $1 AND v.root_key = ANY($2)

-- name: erased_among
SELECT e.identity_key, e.position, e.recorded_at_us
FROM identity_erasures e
WHERE e.tenant = $1 AND e.identity_key = ANY($2) AND NOT EXISTS (
    SELECT FROM identities i
    WHERE i.tenant = e.tenant AND i.identity_key = e.identity_key AND i.sealed_value <> '')
