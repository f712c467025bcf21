"""What every service does with PostgreSQL: a pool, named queries, migrations."""
