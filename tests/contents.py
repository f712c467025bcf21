"""All that a database holds, to compare before and after."""

from typing import Any

import asyncpg

_RELATIONS = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind = 'r' AS has_rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
ORDER BY 1
"""
_COLUMNS = """
SELECT attrelid::regclass::text, attname, atttypid::regtype::text FROM pg_attribute
WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped ORDER BY 1, attnum
"""
_FUNCTIONS = "SELECT proname, prosrc FROM pg_proc WHERE oid >= 16384 ORDER BY 1, 2"


async def contents(url: str) -> list[Any]:
    """Returns the relations, the rows of tables, the columns and the functions."""
    connection = await asyncpg.connect(url)
    try:
        relations = await connection.fetch(_RELATIONS)
        rows = [
            await connection.fetch(f"SELECT t::text FROM {one['name']} t ORDER BY 1")
            for one in relations
            if one["has_rows"]
        ]
        return [
            relations,
            rows,
            await connection.fetch(_COLUMNS),
            await connection.fetch(_FUNCTIONS),
        ]
    finally:
        await connection.close()
