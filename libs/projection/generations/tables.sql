-- name: indexes
-- What finds the rows of a table: each as the statement that made it, or the constraint that did.
SELECT pg_get_indexdef(i.indexrelid) AS definition, pg_get_constraintdef(c.oid) AS constraint
FROM pg_index i
LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')
WHERE i.indrelid = to_regclass($1)
ORDER BY i.indisprimary DESC, i.indexrelid

-- name: has_primary_key
SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass($1) AND indisprimary)

-- name: schemas
SELECT nspname AS name FROM pg_namespace WHERE nspname ~ '^generation_[0-9]+$'
