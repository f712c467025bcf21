-- name: identities_among
SELECT identity_key, kind, first_position, sealed_value, key_id
FROM identities WHERE tenant = $1 AND identity_key = ANY($2)

-- name: members
SELECT root_key, identity_key FROM identities
WHERE tenant = $1 AND root_key = ANY($2)
ORDER BY first_position, identity_key

-- name: decision
SELECT position, left_keys, right_keys
FROM identity_decisions WHERE tenant = $1 AND event_id = $2

-- name: records
SELECT t.event_id, t.record
FROM unnest($2::bytea[], $3::bigint[], $4::uuid[]) AS e(owner_key, occurred_at_us, event_id)
JOIN timeline t ON t.tenant = $1 AND t.owner_key = e.owner_key
    AND t.occurred_at_us = e.occurred_at_us AND t.event_id = e.event_id
