"""Ports for what tests start, each given once: who is restarted finds its own free."""

import random
import socket
from typing import Final

# None that the system gives out by itself, or that `touchline demo` takes.
_OURS: Final = range(10_000, 20_000)
_taken: Final = list[socket.socket]()


def free_address() -> str:
    """Returns a host:port of this machine; see `free_port`."""
    return f"127.0.0.1:{free_port()}"


def free_port() -> int:
    """Returns a port on which nobody listens, and that no other is given while this process runs.

    A socket in Linux's abstract namespace stands for it: one process can have a name, until it
    ends, however it does.
    """
    while True:
        port = random.choice(_OURS)
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0touchline test port {port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            name.close()
            continue
        _taken.append(name)
        return port
