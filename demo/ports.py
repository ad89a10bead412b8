"""Free ports on this machine's own address."""

from __future__ import annotations

import random
import socket


def free_ports(count: int, *, pair_distance: int = 0) -> list[int]:
    """Return free ports.

    :param pair_distance: for servers that open a second port this far above each: it has to be free too.
    """
    # Below the range from which systems take ports for outgoing connections, the second ports too.
    candidates = iter(random.sample(range(11_000, 22_000), 2_000))
    free = (port for port in candidates if is_free(port) and is_free(port + pair_distance))
    return [next(free) for _ in range(count)]


def is_free(port: int) -> bool:
    """Return whether a server may open this port."""
    with socket.socket() as probe:
        # As servers do; else a port whose last connection has just been closed would not count as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
