-- name: append
-- The transaction ends, and with it the lock on the head, when the client's end of the statement has
-- arrived. Should that never come, because the client froze or was cut off between two packets, the
-- server waits no longer than this.
SELECT outcomes, positions, recorded_at_us, previous_position, previous_chain, new_chain,
       set_config('transaction_timeout', '1s', true)
FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: head
SELECT store_id, position, chain FROM store_head

-- name: lineage
SELECT h.store_id, h.position, h.chain,
       a.store_id AS ancestor_id, a.position AS ancestor_position, a.chain AS ancestor_chain
FROM store_head h LEFT JOIN store_ancestors a ON true ORDER BY a.number

-- name: chain_at
SELECT chain FROM events WHERE position = $1

-- name: history_start
SELECT h.store_id, h.position, (SELECT e.chain FROM events e WHERE e.position = $1) AS chain
FROM store_head h

-- name: history
-- Of other partitions than those from $3 to $4 only what the chain is made of. Erasures, of type 44,
-- concern them all.
SELECT position, partition, type, recorded_at_us, content_hash, chain,
       CASE WHEN partition BETWEEN $3 AND $4 OR type = 44 THEN record ELSE '' END AS record
FROM events WHERE position > $1 ORDER BY position LIMIT $2

-- name: events_of_keys
SELECT position, partition, type, recorded_at_us, content_hash, record
FROM events
WHERE tenant = $1 AND owner_key = ANY($2) AND position > $3 AND position <= $4
ORDER BY position LIMIT $5

-- name: stream
SELECT position, partition, type, recorded_at_us, content_hash, record
FROM events
WHERE tenant = $1 AND stream_id = $2 AND stream_version > $3 AND stream_version <= $4
ORDER BY stream_version LIMIT $5

-- name: stream_newest_first
SELECT position, partition, type, recorded_at_us, content_hash, record
FROM events
WHERE tenant = $1 AND stream_id = $2 AND stream_version > $3 AND stream_version <= $4
ORDER BY stream_version DESC LIMIT $5

-- name: changes
SELECT position, partition, type, recorded_at_us, content_hash, record
FROM events
WHERE tenant = $1 AND type = 33 AND position > $2 AND position <= $3
ORDER BY position LIMIT $4

-- name: changes_newest_first
SELECT position, partition, type, recorded_at_us, content_hash, record
FROM events
WHERE tenant = $1 AND type = 33 AND position > $2 AND position <= $3
ORDER BY position DESC LIMIT $4

-- name: events_at
SELECT position, record FROM events WHERE position = ANY($1)

-- name: stored_rows
SELECT position, tenant, event_id, owner_key, partition, type, recorded_at_us, content_hash, chain,
       record, stream_id, stream_version
FROM events WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3

-- name: line_end
SELECT h.position, h.chain, h.recorded_at_us, (SELECT max(e.position) FROM events e) AS last_stored
FROM store_head h

-- name: data_keys
SELECT identity_key, wrapped_key FROM data_keys WHERE tenant = $1 AND identity_key = ANY($2)

-- name: event_keys
SELECT event_id, wrapped_key FROM event_keys WHERE tenant = $1 AND event_id = ANY($2)

-- name: erasures
SELECT erasures FROM store_head

-- name: erased_since
-- Whom an erasure concerned after a position, each with the latest one.
SELECT identity_key, max(position) AS position FROM store_erased_identities
WHERE tenant = $1 AND identity_key = ANY($2) AND position > $3
GROUP BY identity_key

-- name: erasures_of
SELECT identity_key, position, occurred_from_us, occurred_before_us FROM store_erased_identities
WHERE tenant = $1 AND identity_key = ANY($2)

-- name: event_keys_of_nothing
SELECT count(*) FROM event_keys k
WHERE NOT EXISTS (SELECT FROM events e WHERE e.tenant = k.tenant AND e.event_id = k.event_id)

-- name: add_data_keys
-- Who makes the same key waits for the end of this: see append.
WITH made AS (
    INSERT INTO data_keys (tenant, identity_key, wrapped_key)
    SELECT $1, k.identity_key, k.wrapped_key
    FROM unnest($2::bytea[], $3::bytea[]) AS k(identity_key, wrapped_key)
    ORDER BY k.identity_key
    ON CONFLICT DO NOTHING
    RETURNING identity_key
)
SELECT array_agg(identity_key), set_config('transaction_timeout', '1s', true) FROM made

-- name: remember_key_check
SELECT remember_key_check($1)

-- name: remember_identity_check
SELECT remember_identity_check($1)
