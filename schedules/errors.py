"""The one error tree of the project.

::

    TunesmithError
    +-- InputError                  what the caller sent cannot be used; the text says what to mend
    |   +-- UnknownOperatorError
    |   +-- InvalidArgumentError
    |   +-- InvalidWorkloadError
    |   +-- InvalidTargetError
    |   +-- InvalidTraceError
    +-- NotFoundError               a named thing does not exist
    +-- ConflictError               the request contradicts the present state
    +-- ContractError               a component broke the contract of a protocol
    +-- UnavailableError            a part that is needed does not answer; try again

A failed build or run is not an error: it is data, see `schedules.records.Failure`.
"""


class TunesmithError(Exception):
    """Base of everything that the project raises on purpose."""


class InputError(TunesmithError):
    """What the caller sent cannot be used; the message says how to mend it."""


class UnknownOperatorError(InputError):
    """No operator of that name is in the catalogue."""


class InvalidArgumentError(InputError):
    """An operator's arguments or dtype are missing, unknown or out of range."""


class InvalidWorkloadError(InputError):
    """An IR workload cannot be parsed or is not a tunable program."""


class InvalidTargetError(InputError):
    """A target description is not understood."""


class InvalidTraceError(InputError):
    """A trace is malformed or does not apply to the workload."""


class NotFoundError(TunesmithError):
    """A named thing does not exist."""


class ConflictError(TunesmithError):
    """The request contradicts the present state."""


class ContractError(TunesmithError):
    """A component broke the contract of a protocol."""


class UnavailableError(TunesmithError):
    """A part that is needed does not answer; trying again may help."""
