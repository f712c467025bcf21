-- name: add_words
INSERT INTO consents
    (tenant, identity_key, event_id, owner_key, occurred_at_us, recorded_at_us, position, record)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::uuid[], $4::bytea[], $5::bigint[],
                     $6::bigint[], $7::bigint[], $8::bytea[])

-- name: add_retractions
INSERT INTO consent_retractions (tenant, owner_key, event_id, recorded_at_us)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::uuid[], $4::bigint[])
ON CONFLICT DO NOTHING

-- name: words
SELECT DISTINCT ON (c.occurred_at_us, c.event_id) c.position, c.recorded_at_us, c.record
FROM consents c
WHERE c.tenant = $1 AND c.identity_key = ANY($2)
    AND c.occurred_at_us <= $3 AND c.recorded_at_us <= $3
    AND NOT EXISTS (
        SELECT FROM consent_retractions r
        WHERE r.tenant = c.tenant AND r.owner_key = c.owner_key AND r.event_id = c.event_id
            AND r.recorded_at_us <= $3)
ORDER BY c.occurred_at_us DESC, c.event_id DESC
LIMIT $4

-- name: words_before
SELECT a.asked, k.identity_keys, w.position, w.recorded_at_us, w.record
FROM unnest($1::integer[], $2::smallint[], $3::bytea[], $4::bigint[], $5::bigint[])
     AS a(asked, tenant, identity_key, position, recorded_at_us)
JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.identity_key
CROSS JOIN LATERAL (
    SELECT array_agg(o.identity_key) AS identity_keys
    FROM identities o WHERE o.tenant = i.tenant AND o.root_key = i.root_key
) k
LEFT JOIN LATERAL (
    SELECT DISTINCT ON (c.occurred_at_us, c.event_id) c.position, c.recorded_at_us, c.record
    FROM consents c
    WHERE c.tenant = a.tenant AND c.identity_key = ANY(k.identity_keys)
        AND c.position <= a.position
        AND NOT EXISTS (
            SELECT FROM consent_retractions r
            WHERE r.tenant = c.tenant AND r.owner_key = c.owner_key AND r.event_id = c.event_id
                AND r.recorded_at_us <= a.recorded_at_us)
    ORDER BY c.occurred_at_us DESC, c.event_id DESC
    LIMIT $6
) w ON true
