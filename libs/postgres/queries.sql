-- name: make_migrations_table
CREATE TABLE IF NOT EXISTS schema_migrations (
    component text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (component, number)
)

-- name: migrations_columns
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass('schema_migrations') AND attnum > 0 AND NOT attisdropped

-- name: applied
SELECT component, number, name, checksum FROM schema_migrations ORDER BY component, number

-- name: tables
-- What an extension brought along, such as pg_stat_statements, makes a database nobody's.
SELECT CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg\_toast%' AND n.nspname NOT LIKE 'pg\_temp%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname <> 'public', name

-- name: try_lock
SELECT pg_try_advisory_lock($1)

-- name: lock_holder
SELECT a.pid, a.application_name, a.state,
       extract(epoch FROM clock_timestamp() - a.state_change)::integer AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objid = $1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: own
INSERT INTO schema_migrations (component, number, name, checksum) VALUES ($1, 0, $2, '')
ON CONFLICT DO NOTHING
