"""Many worker daemons in one process, each with a device of its own; see `tests.chaos.worker`."""

import signal
import threading
from types import FrameType

from tests.chaos import worker
from tests.chaos.ledger import Ledger
from tuner.client.http import Connection
from tuner.worker.daemon import WorkerConfig, WorkerDaemon


def main() -> None:
    """Run daemons until they are told to stop."""
    made = worker.parser()
    made.add_argument("--daemons", type=int, required=True)
    options = made.parse_args()
    ledger = Ledger(options.ledger)
    daemons = [
        WorkerDaemon(
            Connection(options.server),
            worker.LedgerMeasurer(ledger, secs=0.02),
            WorkerConfig(
                name=f"{options.name}-{number}",
                state_dir=options.state_dir / str(number),
                poll_secs=options.poll_secs,
            ),
        )
        for number in range(options.daemons)
    ]

    def stop(number: int, frame: FrameType | None) -> None:
        for daemon in daemons:
            daemon.request_stop()

    signal.signal(signal.SIGTERM, stop)
    threads = [threading.Thread(target=daemon.run, kwargs={"signals": False}) for daemon in daemons]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
