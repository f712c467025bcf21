-- name: track
INSERT INTO aggregate_tracking AS t (view, application_name, notification_id)
VALUES ($1, $2, $3)
ON CONFLICT (view, application_name) DO UPDATE SET notification_id = excluded.notification_id
WHERE t.notification_id < excluded.notification_id
RETURNING true

-- name: tracked
SELECT notification_id FROM aggregate_tracking WHERE view = $1 AND application_name = $2
