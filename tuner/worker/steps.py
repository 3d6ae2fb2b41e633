"""What happens to a worker, and what it does: the events and actions of `tuner.worker.machine`."""

from dataclasses import dataclass

# --- events --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Registered:
    """The server knows the worker."""

    heartbeat_secs: float


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """The server does not know the worker: it has lost its database, or another took its name."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The server will not have this worker; asking again does not help."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Unreachable:
    """The last request was not answered, or the server asks to come again later."""

    retry_after_secs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class NoWork:
    """There is nothing to measure."""


@dataclass(frozen=True, kw_only=True)
class LeaseGranted:
    """A batch is this worker's until `asked_at` + `ttl_secs`."""

    ttl_secs: float
    asked_at: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """There is one result more, and so many are still to come; `stored` if it is on the disk."""

    left: int
    stored: bool = True


@dataclass(frozen=True, kw_only=True)
class HeartbeatTold:
    """The lease is extended; `command` is what to do with it."""

    command: str
    ttl_secs: float
    asked_at: float


@dataclass(frozen=True, kw_only=True)
class LeaseLost:
    """The lease is not this worker's any more."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class BatchEnded:
    """The batch has no more results."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The reference kernel was run, or could not be; the daemon keeps what came of it."""


@dataclass(frozen=True, kw_only=True)
class Uncheckable:
    """The device has no reference kernel, so there is nothing to tell the server."""


@dataclass(frozen=True, kw_only=True)
class CheckTold:
    """The server knows of the check and wants another in so many seconds."""

    check_secs: float


@dataclass(frozen=True, kw_only=True)
class MeasurerFailed:
    """The batch cannot be measured on this machine."""

    reason: str


Event = (
    Registered
    | Forgotten
    | Refused
    | Unreachable
    | NoWork
    | LeaseGranted
    | Measured
    | HeartbeatTold
    | LeaseLost
    | BatchEnded
    | Checked
    | Uncheckable
    | CheckTold
    | MeasurerFailed
)


# --- actions -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Register:
    """Announce the worker."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Run the reference kernel."""


@dataclass(frozen=True, kw_only=True)
class ReportCheck:
    """Tell the server what came of the last run of the reference kernel."""


@dataclass(frozen=True, kw_only=True)
class Poll:
    """Ask for a lease."""


@dataclass(frozen=True, kw_only=True)
class StartBatch:
    """Begin to measure the granted lease."""


@dataclass(frozen=True, kw_only=True)
class NextResult:
    """Wait for the next result and store it in the spool."""


@dataclass(frozen=True, kw_only=True)
class Post:
    """Send what is in the spool."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Extend the lease."""


@dataclass(frozen=True, kw_only=True)
class Abandon:
    """Stop measuring the batch."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Release:
    """Give the rest of the lease back."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Do nothing for a while: what the server asked for, and then some jittered part of `secs`."""

    secs: float
    at_least_secs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Exit:
    """End the daemon; `reason` is None where all is well."""

    reason: str | None = None


Action = (
    Register
    | Check
    | ReportCheck
    | Poll
    | StartBatch
    | NextResult
    | Post
    | Heartbeat
    | Abandon
    | Release
    | Wait
    | Exit
)
Plan = tuple[Action, ...]
