"""Who has a port that a service needs."""

import errno
import socket
from pathlib import Path
from typing import Final

from libs.embedded import StartFailed

_LISTENS: Final = "0A"


def ensure_free(address: str, variable: str) -> None:
    """Make sure that a service can listen on an address.

    A service that could not would be taken for the program that has its port: that one answers too.

    Args:
        address: host:port.
        variable: The environment variable that names the address, for the message.

    Raises:
        StartFailed: Another program listens there, or the address is none of this machine's.
    """
    host, _, port = address.rpartition(":")
    step = f"listen on {address}"
    if not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise StartFailed(step, f"it is not host:port. Correct {variable}, or unset it.")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise StartFailed(step, f"{error.strerror}. Set {variable} to another one.") from error
        remedy = f"Stop it, or set {variable} to another host:port."
        raise StartFailed(step, f"{listener(int(port))} has that port. {remedy}") from error


def listener(port: int) -> str:
    """Return which program listens on a TCP port of this machine, as far as we may know it."""
    # Sockets are shown to everybody, whose they are only to their user: /proc is Linux's.
    inodes = {
        f"socket:[{fields[9]}]"
        for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
        if table.exists()
        for fields in map(str.split, table.read_text().splitlines()[1:])
        if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(file.readlink()) in inodes for file in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue  # another user's, or it has just ended
    return "another program"
