"""Real PostgreSQL and nats-server as supervised children, for laptops and tests."""

from libs.embedded.databases import create_database, database_url_for, drop_database
from libs.embedded.errors import HomeBusy, StartFailed
from libs.embedded.home import Secrets, load_secrets, read_run_file, write_run_file
from libs.embedded.process import Child, Process, start
from libs.embedded.servers import (
    Endpoints,
    database_beside,
    forget_feed,
    run_database,
    run_servers,
)
from libs.embedded.supervise import Supervised, supervise, supervise_all

__all__ = [
    "Child",
    "Endpoints",
    "HomeBusy",
    "Process",
    "Secrets",
    "StartFailed",
    "Supervised",
    "create_database",
    "database_beside",
    "database_url_for",
    "drop_database",
    "forget_feed",
    "load_secrets",
    "read_run_file",
    "run_database",
    "run_servers",
    "start",
    "supervise",
    "supervise_all",
    "write_run_file",
]
