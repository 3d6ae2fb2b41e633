"""A real worker daemon with a real measuring host whose children fail; see `tests.chaos.host`."""

import logging
import subprocess
import sys
from typing import Any

from tests.chaos import worker
from tests.chaos.ledger import Ledger
from tuner.measure.local import LocalMeasurer


class _FailingHost(subprocess.Popen[bytes]):
    """Starts the host whose children fail in place of the other."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        names = {"tuner.measure": "tests.chaos.host"}
        super().__init__([names.get(argument, argument) for argument in arguments], **options)


def main() -> None:
    """Run a daemon until it is told to stop."""
    options = worker.parser().parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # Only the host is started from here.
    subprocess.Popen = _FailingHost  # type: ignore[misc,assignment]  # in its place
    with LocalMeasurer(builders=2) as measurer:
        worker.run_daemon(options, measurer, Ledger(options.ledger))


if __name__ == "__main__":
    main()
