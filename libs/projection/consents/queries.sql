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
-- One row per profile, however many events and identities of it are asked for.
SELECT p.tenant, p.asked, k.identity_keys, w.positions, w.recorded, w.retracted, w.records
FROM (
    SELECT i.tenant, i.root_key, array_agg(DISTINCT i.identity_key) AS asked,
           max(a.position) AS position
    FROM unnest($1::smallint[], $2::bytea[], $3::bigint[]) AS a(tenant, identity_key, position)
    JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.identity_key
    GROUP BY i.tenant, i.root_key
) p
CROSS JOIN LATERAL (
    SELECT array_agg(o.identity_key) AS identity_keys
    FROM identities o WHERE o.tenant = p.tenant AND o.root_key = p.root_key
) k
CROSS JOIN LATERAL (
    SELECT array_agg(s.position) AS positions, array_agg(s.recorded_at_us) AS recorded,
           array_agg(s.retracted_at_us) AS retracted, array_agg(s.record) AS records
    FROM (
        SELECT DISTINCT ON (c.occurred_at_us, c.event_id) c.position, c.recorded_at_us, c.record, (
            SELECT min(r.recorded_at_us) FROM consent_retractions r
            WHERE r.tenant = c.tenant AND r.owner_key = c.owner_key AND r.event_id = c.event_id
        ) AS retracted_at_us
        FROM consents c
        WHERE c.tenant = p.tenant AND c.identity_key = ANY(k.identity_keys)
            AND c.position <= p.position
        ORDER BY c.occurred_at_us DESC, c.event_id DESC
        LIMIT $4
    ) s
) w
