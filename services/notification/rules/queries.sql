-- name: add_rules
INSERT INTO rules (tenant, name, version, position, published_at_us, published_by, definition)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[],
                     $6::text[], $7::bytea[])
ON CONFLICT DO NOTHING

-- name: latest_rules
SELECT DISTINCT ON (tenant, name)
    tenant, name, version, position, published_at_us, published_by, definition
FROM rules ORDER BY tenant, name, version DESC

-- name: rules_in_force
SELECT DISTINCT ON (name)
    tenant, name, version, position, published_at_us, published_by, definition
FROM rules WHERE tenant = $1 AND position < $2 ORDER BY name, version DESC

-- name: event
SELECT position, recorded_at_us, record FROM timeline WHERE tenant = $1 AND event_id = $2

-- name: state_of_decisions
SELECT CASE
    WHEN EXISTS (SELECT FROM timeline WHERE tenant = $1 AND event_id = ANY($2))
        OR EXISTS (SELECT FROM notifications WHERE tenant = $1 AND notification_id = ANY($2))
        THEN 'decided'
    ELSE (SELECT min(state) FROM outbox WHERE tenant = $3 AND event_id = ANY($2))
END

-- name: recent
SELECT a.asked, t.position, t.occurred_at_us, t.record
FROM unnest($1::integer[], $2::smallint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bigint[])
     AS a(asked, tenant, owner_key, position, recorded_at_us, since_us, occurred_at_us)
JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.owner_key
CROSS JOIN LATERAL (
    SELECT e.*
    FROM identities k
    CROSS JOIN LATERAL (
        SELECT o.position, o.occurred_at_us, o.event_id, o.record
        FROM timeline o
        WHERE o.tenant = a.tenant AND o.owner_key = k.identity_key
            AND o.occurred_at_us BETWEEN a.since_us AND a.occurred_at_us
            AND o.position < a.position AND o.type <> ALL($8)
            AND NOT EXISTS (
                SELECT FROM timeline_retractions r
                WHERE r.tenant = o.tenant AND r.owner_key = o.owner_key
                    AND r.event_id = o.event_id AND r.recorded_at_us <= a.recorded_at_us)
        ORDER BY o.occurred_at_us DESC, o.event_id DESC
        LIMIT $9
    ) e
    WHERE k.tenant = i.tenant AND k.root_key = i.root_key
    ORDER BY e.occurred_at_us DESC, e.event_id DESC
    LIMIT $9
) t
ORDER BY a.asked, t.occurred_at_us DESC, t.event_id DESC

-- name: known
-- The types are said again as constants: only so is the partial index timeline_known used.
SELECT a.asked, t.position, t.record
FROM unnest($1::integer[], $2::smallint[], $3::bytea[], $4::bigint[], $5::bigint[])
     AS a(asked, tenant, owner_key, position, recorded_at_us)
JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.owner_key
CROSS JOIN LATERAL (
    SELECT e.*
    FROM identities k
    CROSS JOIN unnest($6::smallint[]) AS w(type)
    CROSS JOIN LATERAL (
        SELECT o.position, o.occurred_at_us, o.event_id, o.record
        FROM timeline o
        WHERE o.tenant = a.tenant AND o.owner_key = k.identity_key
            AND o.type = w.type AND o.type IN (27, 37)
            AND o.position <= a.position
            AND NOT EXISTS (
                SELECT FROM timeline_retractions r
                WHERE r.tenant = o.tenant AND r.owner_key = o.owner_key
                    AND r.event_id = o.event_id AND r.recorded_at_us <= a.recorded_at_us)
        ORDER BY o.occurred_at_us DESC, o.event_id DESC
        LIMIT $7
    ) e
    WHERE k.tenant = i.tenant AND k.root_key = i.root_key
) t
ORDER BY a.asked, t.occurred_at_us DESC, t.event_id DESC

-- name: customers_with
SELECT DISTINCT a.tenant, a.owner_key
FROM unnest($1::smallint[], $2::bytea[]) AS a(tenant, owner_key)
JOIN identities i ON i.tenant = a.tenant AND i.identity_key = a.owner_key
JOIN identities k ON k.tenant = i.tenant AND k.root_key = i.root_key AND k.kind = $3

-- name: recipients_named
SELECT r.tenant, r.reference, r.email <> '' AS email, r.webhook_url <> '' AS webhook
FROM unnest($1::smallint[], $2::text[]) AS a(tenant, reference)
JOIN recipients r USING (tenant, reference)
