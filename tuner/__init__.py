"""The tuning engine, the worker daemon, the client and the command line.

``tuner.tune`` tunes on this machine, ``tuner.Client`` talks to a server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.client.sdk import Client
    from tuner.embedded import tune

__all__ = ["Client", "tune"]


def __getattr__(name: str) -> Any:
    """Import the two public names on first use: a worker daemon needs neither."""
    if name == "tune":
        from tuner.embedded import tune

        return tune
    if name == "Client":
        from tuner.client.sdk import Client

        return Client
    raise AttributeError(f"module 'tuner' has no attribute {name!r}")
