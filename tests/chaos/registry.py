"""All faults, in the order in which they are run."""

from importlib import import_module

from tests.chaos.fault import Fault

MODULES: tuple[str, ...] = (
    "server_killed",
    "orchestrator_killed",
    "worker_stopped",
    "worker_killed",
    "child_failed",
    "clocks",
    "network",
    "storage_sqlite",
    "storage_postgresql",
    "storage_machine",
    "storage_claims",
    "storage_clock",
)
"""Modules of this package; each has a tuple ``FAULTS``."""

FAULTS: tuple[Fault, ...] = tuple(
    fault for module in MODULES for fault in import_module(f"tests.chaos.{module}").FAULTS
)
