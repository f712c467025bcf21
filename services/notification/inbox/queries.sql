-- name: add_notifications
INSERT INTO notifications
    (tenant, notification_id, position, recorded_at_us, owner_key, cause_id, recipient_key, in_inbox,
     record)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bytea[], $6::uuid[],
                     $7::bytea[], $8::boolean[], $9::bytea[])
ON CONFLICT DO NOTHING

-- name: add_read
INSERT INTO notification_reads
    (tenant, notification_id, position, read_at_us, event_id, owner_key)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, notification_id) DO UPDATE
    SET position = excluded.position, read_at_us = excluded.read_at_us,
        event_id = excluded.event_id, owner_key = excluded.owner_key
    WHERE (excluded.read_at_us, excluded.event_id)
        < (notification_reads.read_at_us, notification_reads.event_id)

-- name: add_reading
INSERT INTO notification_readings
    (tenant, notification_id, position, read_at_us, event_id, owner_key)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: notifications_of_owners
SELECT position, record FROM notifications
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3

-- name: erase_notifications
DELETE FROM notifications WHERE tenant = $1 AND owner_key = ANY($2) AND position = ANY($3)

-- name: attempts_of_owners
SELECT position, record FROM delivery_attempts
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3

-- name: erase_attempts
DELETE FROM delivery_attempts WHERE tenant = $1 AND owner_key = ANY($2) AND position = ANY($3)

-- name: erase_readings
DELETE FROM notification_readings
WHERE tenant = $1 AND owner_key = ANY($2) AND read_at_us >= $3 AND read_at_us < $4
    AND position < $5
RETURNING notification_id

-- name: forget_reads
DELETE FROM notification_reads WHERE tenant = $1 AND notification_id = ANY($2)

-- name: first_reads
INSERT INTO notification_reads
    (tenant, notification_id, position, read_at_us, event_id, owner_key)
SELECT DISTINCT ON (notification_id)
    tenant, notification_id, position, read_at_us, event_id, owner_key
FROM notification_readings WHERE tenant = $1 AND notification_id = ANY($2)
ORDER BY notification_id, read_at_us, event_id

-- name: add_attempts
INSERT INTO delivery_attempts (tenant, notification_id, position, owner_key, record)
SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[])

-- name: inbox_of_reference
SELECT n.position, n.notification_id, n.recorded_at_us, n.owner_key, n.record, r.read_at_us
FROM notifications n LEFT JOIN notification_reads r USING (tenant, notification_id)
WHERE n.tenant = $1 AND n.recipient_key = $2 AND n.in_inbox AND n.position < $3
    AND NOT ($4 AND r.read_at_us IS NOT NULL)
ORDER BY n.position DESC LIMIT $5

-- name: inbox_of_customer
SELECT n.position, n.notification_id, n.recorded_at_us, n.owner_key, n.record, r.read_at_us
FROM notifications n LEFT JOIN notification_reads r USING (tenant, notification_id)
WHERE n.tenant = $1 AND n.recipient_key IS NULL AND n.owner_key = ANY($2) AND n.in_inbox
    AND n.position < $3 AND NOT ($4 AND r.read_at_us IS NOT NULL)
ORDER BY n.position DESC LIMIT $5

-- name: unread_of_reference
SELECT count(*) FROM notifications n
WHERE n.tenant = $1 AND n.recipient_key = $2 AND n.in_inbox AND NOT EXISTS (
    SELECT FROM notification_reads r
    WHERE r.tenant = n.tenant AND r.notification_id = n.notification_id)

-- name: unread_of_customer
SELECT count(*) FROM notifications n
WHERE n.tenant = $1 AND n.recipient_key IS NULL AND n.owner_key = ANY($2) AND n.in_inbox
    AND NOT EXISTS (
        SELECT FROM notification_reads r
        WHERE r.tenant = n.tenant AND r.notification_id = n.notification_id)

-- name: changes_of_reference
SELECT n.position, n.notification_id, n.recorded_at_us, n.owner_key, n.record, r.read_at_us,
       n.position AS changed
FROM notifications n LEFT JOIN notification_reads r USING (tenant, notification_id)
WHERE n.tenant = $1 AND n.recipient_key = $2 AND n.in_inbox
    AND n.position > $3 AND n.position <= $4
    AND NOT coalesce(r.position > n.position AND r.position <= $4, false)
UNION ALL
SELECT n.position, n.notification_id, n.recorded_at_us, n.owner_key, n.record, r.read_at_us,
       r.position
FROM notification_reads r JOIN notifications n USING (tenant, notification_id)
WHERE r.tenant = $1 AND r.position > $3 AND r.position <= $4
    AND n.recipient_key = $2 AND n.in_inbox AND n.position < r.position
ORDER BY changed LIMIT $5

-- name: changes_of_customer
SELECT n.position, n.notification_id, n.recorded_at_us, n.owner_key, n.record, r.read_at_us,
       n.position AS changed
FROM notifications n LEFT JOIN notification_reads r USING (tenant, notification_id)
WHERE n.tenant = $1 AND n.recipient_key IS NULL AND n.owner_key = ANY($2) AND n.in_inbox
    AND n.position > $3 AND n.position <= $4
    AND NOT coalesce(r.position > n.position AND r.position <= $4, false)
UNION ALL
SELECT n.position, n.notification_id, n.recorded_at_us, n.owner_key, n.record, r.read_at_us,
       r.position
FROM notification_reads r JOIN notifications n USING (tenant, notification_id)
WHERE r.tenant = $1 AND r.position > $3 AND r.position <= $4
    AND n.recipient_key IS NULL AND n.owner_key = ANY($2) AND n.in_inbox
    AND n.position < r.position
ORDER BY changed LIMIT $5

-- name: named
SELECT n.notification_id, n.recorded_at_us, n.record, r.read_at_us
FROM notifications n LEFT JOIN notification_reads r USING (tenant, notification_id)
WHERE n.tenant = $1 AND n.notification_id = ANY($2)

-- name: cause_of
SELECT cause_id FROM notifications WHERE tenant = $1 AND notification_id = $2

-- name: decisions_of
SELECT n.notification_id, n.recorded_at_us, n.record, r.read_at_us
FROM notifications n LEFT JOIN notification_reads r USING (tenant, notification_id)
WHERE n.tenant = $1 AND n.cause_id = $2
ORDER BY n.position

-- name: attempts_of
SELECT notification_id, record FROM delivery_attempts
WHERE tenant = $1 AND notification_id = ANY($2)
ORDER BY position

-- name: was_read
SELECT EXISTS (
    SELECT FROM notification_reads WHERE tenant = $1 AND notification_id = $2)

-- name: profiles_of_owners
SELECT identity_key, root_key FROM identities WHERE tenant = $1 AND identity_key = ANY($2)
