"""Injects one fault in a process of its own: ``python -m tests.chaos.alone NAME COUNT``.

Its last line is the outcome, as JSON.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.registry import FAULTS


def main(name: str, count: str) -> None:
    """Inject a fault so many times, in a folder that is deleted, and print what came of it."""
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        outcome = fault.run(int(count), Path(folder))
    print(json.dumps(dataclasses.asdict(outcome)))


if __name__ == "__main__":
    main(*sys.argv[1:])
