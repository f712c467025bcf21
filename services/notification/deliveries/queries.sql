-- name: add_deliveries
INSERT INTO deliveries
    (tenant, notification_id, channel, position, state, due_at_us, expires_at_us, owner_key,
     recorded_at_us, record)
SELECT d.tenant, d.notification_id, d.channel, d.position, 1, d.due_at_us, d.expires_at_us,
       d.owner_key, d.recorded_at_us, d.record
FROM unnest($1::smallint[], $2::uuid[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::bytea[], $8::bigint[], $9::bytea[])
     AS d(tenant, notification_id, channel, position, due_at_us, expires_at_us, owner_key,
          recorded_at_us, record)
ON CONFLICT DO NOTHING

-- name: take_in
UPDATE deliveries
SET state = $5, attempts = greatest(attempts, $4), settled = $4, reason = $6,
    due_at_us = coalesce($7, due_at_us), ended_at_us = $8,
    possibly_repeated = possibly_repeated OR $9, claimed_by = NULL, claimed_until = NULL
WHERE tenant = $1 AND notification_id = $2 AND channel = $3 AND settled < $4 AND attempts <= $4

-- name: hurry
UPDATE deliveries SET due_at_us = 0 WHERE tenant = $1 AND notification_id = ANY($2) AND state = 1

-- name: waiting_of
SELECT position, notification_id, recorded_at_us, record FROM deliveries
WHERE state = 1 AND tenant = $1 AND owner_key = ANY($2) AND position < $3

-- name: claim
WITH waiting AS (
    SELECT tenant, notification_id, channel FROM deliveries
    WHERE channel = $1 AND state = 1
        AND due_at_us <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
    ORDER BY due_at_us LIMIT $4 FOR UPDATE SKIP LOCKED
), lost AS (
    SELECT tenant, notification_id, channel FROM deliveries
    WHERE channel = $1 AND state = 2 AND claimed_until < clock_timestamp()
    ORDER BY claimed_until LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE deliveries d
SET state = 2, attempts = attempts + 1, claimed_by = $2,
    claimed_until = clock_timestamp() + $3::interval,
    lost_claims = lost_claims + (state = 2)::integer,
    possibly_repeated = possibly_repeated OR state = 2
FROM (SELECT * FROM lost UNION ALL SELECT * FROM waiting LIMIT $4) AS due
WHERE d.tenant = due.tenant AND d.notification_id = due.notification_id AND d.channel = due.channel
RETURNING d.tenant, d.notification_id, d.channel, d.attempts, d.attempts_before, d.lost_claims,
          d.possibly_repeated, d.expires_at_us, d.owner_key, d.recorded_at_us, d.record,
          (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us

-- name: give_back
UPDATE deliveries
SET state = 1, attempts = attempts - 1, claimed_by = NULL, claimed_until = NULL,
    due_at_us = (extract(epoch FROM clock_timestamp() + $6::interval) * 1000000)::bigint
WHERE tenant = $1 AND notification_id = $2 AND channel = $3 AND attempts = $4 AND claimed_by = $5
    AND state = 2

-- name: settle
UPDATE deliveries
SET state = $6, settled = $4, reason = $7, due_at_us = coalesce($8, due_at_us), ended_at_us = $9,
    possibly_repeated = possibly_repeated OR $10, claimed_by = NULL, claimed_until = NULL
WHERE tenant = $1 AND notification_id = $2 AND channel = $3 AND attempts = $4 AND claimed_by = $5
    AND state = 2
RETURNING true

-- name: next_due
SELECT least(
    (SELECT min(due_at_us) FROM deliveries WHERE channel = $1 AND state = 1),
    (SELECT (extract(epoch FROM min(claimed_until)) * 1000000)::bigint
     FROM deliveries WHERE channel = $1 AND state = 2)
) - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint

-- name: waiting
SELECT channel, count(*), min(due_at_us) FROM deliveries WHERE state IN (1, 2) GROUP BY channel

-- name: listed
SELECT position, notification_id, channel, state, attempts, reason, due_at_us, ended_at_us,
       possibly_repeated
FROM deliveries
WHERE tenant = $1 AND ($2::smallint[] IS NULL OR state = ANY($2))
    AND (position, channel) < ($3, $4)
ORDER BY position DESC, channel DESC LIMIT $5

-- name: of_notifications
SELECT position, notification_id, channel, state, attempts, reason, due_at_us, ended_at_us,
       possibly_repeated
FROM deliveries
WHERE tenant = $1 AND notification_id = ANY($2)
ORDER BY position, channel

-- name: try_again
UPDATE deliveries
SET state = 1, attempts_before = attempts, lost_claims = 0, ended_at_us = NULL,
    due_at_us = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
WHERE tenant = $1 AND notification_id = $2 AND channel = $3 AND state = 4
RETURNING true

-- name: put_recipient
INSERT INTO recipients (tenant, reference, email, webhook_url) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, reference) DO UPDATE
    SET email = excluded.email, webhook_url = excluded.webhook_url

-- name: recipient
SELECT email, webhook_url FROM recipients WHERE tenant = $1 AND reference = $2

-- name: recipients
SELECT reference, email, webhook_url FROM recipients WHERE tenant = $1 ORDER BY reference

-- name: emails_of
SELECT identity_key, kind, sealed_value, key_id
FROM identities WHERE tenant = $1 AND identity_key = ANY($2) AND kind = $3
ORDER BY first_position, identity_key
