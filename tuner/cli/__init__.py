"""The command line: ``tunesmith``."""

from tuner.cli.root import main

__all__ = ["main"]
