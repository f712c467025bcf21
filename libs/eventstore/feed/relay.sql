-- name: take_relay_lease
UPDATE relay_lease
SET holder = $1,
    epoch = CASE WHEN holder = $1 AND expires_at > now() THEN epoch ELSE epoch + 1 END,
    expires_at = now() + $2::interval,
    position = coalesce($3, position),
    problem = coalesce($4, problem)
WHERE holder = $1 OR expires_at < now()
RETURNING epoch, (SELECT store_id FROM store_head) AS store_id

-- name: release_relay_lease
UPDATE relay_lease SET expires_at = '-infinity', problem = coalesce($2, problem) WHERE holder = $1

-- name: relay_report
SELECT epoch, expires_at > now() AS led, position, problem FROM relay_lease

-- name: lock_feed_restart
SELECT pg_try_advisory_xact_lock(hashtext('touchline feed restart'))
