"""What a worker may own on its machine, and how that is written.

====================  ======================================================================
``cpu``               all cores that the process may use; alone on its machine
``cpu:0-7`` ``cpu:1`` these cores and no others, in the notation of ``taskset``
``cuda:0``            a GPU, by its number among those that the process may use
====================  ======================================================================

Candidates are built on cores: that would disturb whoever times on them, but neither a GPU nor other
builds. So a GPU builds on the cores that no ``cpu:LIST`` beside it owns, or on those that are given
for builds. It goes together with ``cpu:LIST`` and with other GPUs, and not with ``cpu``, which is
alone by definition. A ``cpu:LIST`` builds on its own cores, before it times, unless others are
given for builds: on those it builds while it times.
"""

import os
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schedules.errors import InputError
from tuner.measure.cores import format_cores, parse_cores
from tuner.measure.gpu import ordinal_of


@dataclass(frozen=True, kw_only=True)
class CpuDevice:
    """The processor of this machine, or a part of it.

    Attributes
    ----------
    cores : frozenset of int or None
        None for all of them.
    build_cores : frozenset of int or None
        Others, to build on while these are timed; shared with other devices at most.
    """

    cores: frozenset[int] | None = None
    build_cores: frozenset[int] | None = None

    def __str__(self) -> str:
        return "cpu" if self.cores is None else f"cpu:{format_cores(self.cores)}"

    @property
    def runs_on(self) -> str:
        """The device as the measuring host names it: a part is all that its process has."""
        return "cpu"

    @property
    def file_name(self) -> str:
        """The name as a part of a file's name."""
        return str(self).replace(":", "-")

    @property
    def locks(self) -> tuple[tuple[str, bool], ...]:
        """Names of the locks that owning it takes, in order, and whether each is exclusive."""
        if self.cores is None:
            return (("cpu", True),)
        return (
            ("cpu", False),
            *((f"cpu-core-{core}", True) for core in sorted(self.cores)),
            *((f"cpu-core-{core}", False) for core in sorted(self.build_cores or ())),
        )

    def occupy(self) -> None:
        """Confine this process, and all that it starts from now on, to the device."""
        if self.cores is not None:
            os.sched_setaffinity(0, self.cores)


@dataclass(frozen=True, kw_only=True)
class CudaDevice:
    """One GPU, with the cores that its candidates are built on.

    Attributes
    ----------
    ordinal : int
        Its number among the GPUs that this process may use.
    gpu : str
        What ``CUDA_VISIBLE_DEVICES`` calls it, which may be another number or its UUID; where that
        is not set, the ordinal. Tells the GPUs of processes apart that may use different ones.
    build_cores : frozenset of int
        Shared with other GPUs at most.
    """

    ordinal: int
    gpu: str
    build_cores: frozenset[int]

    def __str__(self) -> str:
        return self.runs_on

    @property
    def runs_on(self) -> str:
        """The device as the measuring host names it."""
        return f"cuda:{self.ordinal}"

    @property
    def file_name(self) -> str:
        """The name as a part of a file's name."""
        return "cuda-" + re.sub(r"[^0-9A-Za-z-]", "-", self.gpu)

    @property
    def locks(self) -> tuple[tuple[str, bool], ...]:
        """Names of the locks that owning it takes, in order, and whether each is exclusive."""
        cores = ((f"cpu-core-{core}", False) for core in sorted(self.build_cores))
        return (("cpu", False), *cores, (self.file_name, True))

    def occupy(self) -> None:
        """Confine this process, and all that it starts from now on, to the cores it builds on."""
        os.sched_setaffinity(0, self.build_cores)


Device = CpuDevice | CudaDevice

WHOLE_CPU = CpuDevice()


def parse_devices(
    texts: Sequence[str],
    usable: AbstractSet[int],
    visible_gpus: str | None = None,
    build_cores: frozenset[int] | None = None,
) -> tuple[Device, ...]:
    """Read the devices of one machine.

    Parameters
    ----------
    texts : sequence of str
        At least one.
    usable : set of int
        The cores that this process may use.
    visible_gpus : str or None
        The value of ``CUDA_VISIBLE_DEVICES``, None where it is not set. Whether there is such a GPU
        is for the driver to say, when the worker describes itself.
    build_cores : frozenset of int or None
        Cores to build on while others are measured.

    Raises
    ------
    InputError
        One is not understood, is not there, or cannot be owned beside another.
    """
    # A GPU builds on what the others leave, so they are read first.
    parts = [_parse_cpu(text, usable, build_cores) for text in texts if not _names_gpu(text)]
    for place, part in enumerate(parts):
        for earlier in parts[:place]:
            common = (part.cores or usable) & (earlier.cores or usable)
            if common:
                raise InputError(
                    f"devices {earlier} and {part} share the cores {format_cores(common)}; two "
                    "workers on one core would disturb each other's timing"
                )
    left = frozenset(usable).difference(*(part.cores or usable for part in parts))
    if build_cores is not None:
        _check_build_cores(build_cores, parts, usable)
        left = build_cores
    waiting = iter(parts)
    devices: list[Device] = []
    for text in texts:
        device = _parse_gpu(text, left, visible_gpus) if _names_gpu(text) else next(waiting)
        if isinstance(device, CudaDevice) and device in devices:
            raise InputError(f"device {device} is given twice")
        devices.append(device)
    return tuple(devices)


def _names_gpu(text: str) -> bool:
    return text.partition(":")[0] == "cuda"


def _check_build_cores(
    build_cores: frozenset[int], parts: Sequence[CpuDevice], usable: AbstractSet[int]
) -> None:
    missing = build_cores - usable
    if missing:
        raise InputError(
            f"the cores {format_cores(missing)} to build on are none that this process can use; it "
            f"may use {format_cores(usable)}"
        )
    for part in parts:
        common = build_cores & (part.cores or usable)
        if common:
            raise InputError(
                f"device {part} is measured on the cores {format_cores(common)}, which builds "
                "would disturb; build on others, and give the processor as cpu:LIST without them"
            )


def _parse_cpu(
    text: str, usable: AbstractSet[int], build_cores: frozenset[int] | None
) -> CpuDevice:
    kind, colon, rest = text.partition(":")
    if kind != "cpu":
        raise InputError(
            f"there is no device {text!r}; use cpu, cpu:LIST such as cpu:0-7, or a GPU such as "
            "cuda:0"
        )
    if not colon:
        return WHOLE_CPU
    cores = parse_cores(rest)
    missing = cores - usable
    if missing:
        raise InputError(
            f"device {text!r} has the cores {format_cores(missing)}, which this process cannot "
            f"use; it may use {format_cores(usable)}"
        )
    return CpuDevice(cores=cores, build_cores=build_cores)


def _parse_gpu(text: str, cores: frozenset[int], visible_gpus: str | None) -> CudaDevice:
    ordinal = ordinal_of(text)
    if not cores:
        raise InputError(
            f"the other devices leave no core for {text} to build on; give the processor as "
            "cpu:LIST, with a core less"
        )
    if visible_gpus is None:
        return CudaDevice(ordinal=ordinal, gpu=str(ordinal), build_cores=cores)
    visible = [gpu.strip() for gpu in visible_gpus.split(",") if gpu.strip()]
    if ordinal >= len(visible):
        raise InputError(
            f"there is no device {text!r}: CUDA_VISIBLE_DEVICES shows this process {len(visible)} "
            "GPUs"
        )
    return CudaDevice(ordinal=ordinal, gpu=visible[ordinal], build_cores=cores)
