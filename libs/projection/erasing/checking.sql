-- name: tables_of_generations
SELECT g.schema_name AS schema, array_agg(c.relname::text) AS tables
FROM projection_generations g
JOIN pg_namespace n ON n.nspname = g.schema_name
JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'r'
WHERE g.schema_name <> 'public'
GROUP BY g.schema_name ORDER BY g.schema_name
