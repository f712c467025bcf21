-- name: paused
SELECT reason FROM projection_pauses WHERE projection = $1
