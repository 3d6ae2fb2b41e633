"""A port that stays one's own while nobody listens at it."""

import os
import socket

_FIRST, _COUNT = 20_000, 10_000
"""Below the ports that the kernel gives to connections, which could take one of a dead server."""


class Port:
    """A port that no other run of the faults is given until it is closed, or its holder dead.

    Attributes
    ----------
    number : int
        For a server to listen at.
    """

    def __init__(self) -> None:
        # Starting at the process's number, runs that follow each other have other ports: what one
        # has left behind cannot find the servers of the next.
        for step in range(_COUNT):
            self.number = _FIRST + (os.getpid() + step) % _COUNT
            self._hold = socket.socket(socket.AF_UNIX)
            try:
                self._hold.bind(f"\0tunesmith-chaos-port-{self.number}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", self.number))
            except OSError:
                self._hold.close()
            else:
                return
        raise RuntimeError(f"no port from {_FIRST} to {_FIRST + _COUNT - 1} is free")

    def close(self) -> None:
        """Let others have it."""
        self._hold.close()
