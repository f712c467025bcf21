-- name: keep_rejected
-- Who keeps the same event waits for the end of this: should it never come, because the client froze,
-- the server waits no longer than a second. As the store's append.
WITH kept AS (
    INSERT INTO rejected_events (tenant, content_hash, violations, sealed_event,
                                 identity_keys, occurred_at_us)
    SELECT $1, r.content_hash, r.violations, r.sealed_event,
           -- Arrays of one length only make an array of arrays: each came as one run of keys.
           ARRAY(SELECT substr(r.keys, 1 + 16 * n, 16)
                 FROM generate_series(0, length(r.keys) / 16 - 1) AS n),
           r.occurred_at_us
    FROM unnest($2::bytea[], $3::jsonb[], $4::bytea[], $5::bytea[], $6::bigint[])
         AS r(content_hash, violations, sealed_event, keys, occurred_at_us)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*), set_config('transaction_timeout', '1s', true) FROM kept

-- name: list_rejected
-- Those that would make the page too large come without their event.
SELECT rejected_id, rejected_at, violations,
       CASE WHEN bytes_so_far <= $4 OR number = 1 THEN sealed_event END AS sealed_event
FROM (
    SELECT *, row_number() OVER newest AS number,
           sum(length(sealed_event)) OVER newest AS bytes_so_far
    FROM rejected_events
    WHERE tenant = $1 AND rejected_id < $2
    WINDOW newest AS (ORDER BY rejected_id DESC)
    ORDER BY rejected_id DESC LIMIT $3
) page
ORDER BY rejected_id DESC

-- name: rejected_unread
SELECT rejected_id, sealed_event FROM rejected_events
WHERE identity_keys IS NULL AND tenant = $1 AND rejected_id > $2 ORDER BY rejected_id LIMIT $3

-- name: rejected_read
UPDATE rejected_events SET identity_keys = $2, occurred_at_us = $3
WHERE rejected_id = $1 AND identity_keys IS NULL

-- name: count_rejected_of
SELECT count(*) FROM rejected_events
WHERE tenant = $1 AND identity_keys && $2 AND rejected_at <= to_timestamp($3::bigint / 1e6)
  AND (occurred_at_us IS NULL
       OR (occurred_at_us >= $4 AND ($5::bigint = 0 OR occurred_at_us < $5)))

-- name: count_rejected
SELECT count(*) FROM rejected_events WHERE tenant = $1

-- name: newest_registrations
-- One look at an index for each tenant.
SELECT t.tenant, (
    SELECT max(e.stream_version) FROM events e
    WHERE e.tenant = t.tenant AND e.stream_id = t.stream_id
) AS version
FROM unnest($1::smallint[], $2::uuid[]) AS t(tenant, stream_id)

-- name: rejected_to_retry
-- Only those at the front that make at most so many bytes together, but always one.
SELECT rejected_id, sealed_event
FROM (
    SELECT rejected_id, sealed_event, row_number() OVER oldest AS number,
           sum(length(sealed_event)) OVER oldest AS bytes_so_far
    FROM (
        SELECT rejected_id, sealed_event FROM rejected_events
        WHERE tenant = $1 AND rejected_id > $2 AND ($3::bigint[] IS NULL OR rejected_id = ANY($3))
        ORDER BY rejected_id LIMIT $4
    ) page
    WINDOW oldest AS (ORDER BY rejected_id)
) sized
WHERE bytes_so_far <= $5 OR number = 1
ORDER BY rejected_id

-- name: still_rejected
UPDATE rejected_events r SET violations = n.violations
FROM unnest($2::bigint[], $3::jsonb[]) AS n(rejected_id, violations)
WHERE r.tenant = $1 AND r.rejected_id = n.rejected_id AND r.violations <> n.violations

-- name: remove_rejected
WITH gone AS (
    DELETE FROM rejected_events WHERE tenant = $1 AND rejected_id = ANY($2) RETURNING 1
)
SELECT count(*) FROM gone

-- name: is_rejected
SELECT EXISTS (SELECT FROM rejected_events WHERE tenant = $1 AND rejected_id = $2)

-- name: erasure
SELECT position, recorded_at_us, deleted_keys, erased_events, kept_events, discarded_rejected_events
FROM store_erasures WHERE tenant = $1 AND erasure_id = $2

-- name: erasure_at
SELECT erasure_id, erased_events, recorded_at_us FROM store_erasures
WHERE tenant = $1 AND position = $2

-- name: erased_keys
SELECT identity_key, key_id FROM store_erased_identities WHERE tenant = $1 AND position = $2

-- name: count_event_keys_of
SELECT count(*) FROM event_keys k JOIN events e USING (tenant, event_id)
WHERE k.tenant = $1 AND k.owner_key = ANY($2) AND e.position < $3
  AND k.occurred_at_us >= $4 AND ($5::bigint = 0 OR k.occurred_at_us < $5)

-- name: owned_events
-- No order: the keys are many, and each event is looked at once.
SELECT position, record FROM events
WHERE tenant = $1 AND owner_key = ANY($2) AND position > $3 AND position <= $4

-- name: keep_event_keys
SELECT keep_event_keys($1, $2, $3, $4, $5, $6), set_config('transaction_timeout', '1s', true)

-- name: erase
-- As the store's append: should the client freeze, the server waits no longer than a second.
SELECT e.outcome, CASE e.outcome WHEN 1 THEN discard_erased($1, $2) END AS discarded,
       set_config('transaction_timeout', '1s', true)
FROM erase_identities($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) e
