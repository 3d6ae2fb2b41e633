"""What the NVIDIA driver says of a GPU: its properties, and its state while something is timed.

The driver's libraries are called by `ctypes`, so neither a toolkit nor a framework is needed. All
of this happens in processes that may touch CUDA, which the measuring host and the daemon never do:
after `cuInit` a process cannot be forked any more. The driver itself respects
``CUDA_VISIBLE_DEVICES`` and MIG; nothing here changes a setting of a GPU.
"""

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

from schedules.errors import InputError, UnavailableError
from schedules.target import Target

CUDA_LIBRARY = "libcuda.so.1"
NVML_LIBRARY = "libnvidia-ml.so.1"

# Numbers of `CUdevice_attribute`.
_ATTRIBUTES: Mapping[str, int] = {
    "max_threads_per_block": 1,
    "shared_memory_per_block": 8,
    "warp_size": 10,
    "registers_per_block": 12,
    "clock_khz": 13,
    "multiprocessors": 16,
    "memory_clock_khz": 36,
    "memory_bus_bits": 37,
    "l2_cache_bytes": 38,
    "capability_major": 75,
    "capability_minor": 76,
}

_NVML_SM_CLOCK, _NVML_MEMORY_CLOCK, _NVML_TEMPERATURE = 1, 2, 0


class Throttle(IntFlag):
    """Why a GPU runs slower than it could; bits of NVML's clock event reasons."""

    POWER_CAP = 0x4
    """Normal for matrix units at full load; noted, and no reason to measure again."""
    HARDWARE = 0x8
    THERMAL = 0x20
    HARDWARE_THERMAL = 0x40
    POWER_BRAKE = 0x80


DISTURBING = Throttle.HARDWARE | Throttle.THERMAL | Throttle.HARDWARE_THERMAL | Throttle.POWER_BRAKE
"""Reasons that a measurement is repeated for."""


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """The state of a GPU at one moment."""

    sm_mhz: int
    memory_mhz: int
    temperature_celsius: int
    throttle: Throttle

    @property
    def disturbed(self) -> bool:
        """Whether something other than the kernel itself slows the GPU down."""
        return bool(self.throttle & DISTURBING)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What the driver says of one GPU.

    Attributes
    ----------
    ordinal : int
        As in ``cuda:N``: its place among the GPUs that this process may use.
    uuid : str
        As the driver gives it; of the part, where the GPU is split (MIG).
    properties : Mapping[str, int]
        The attributes of `_ATTRIBUTES`, and ``memory_bytes``.
    driver : str
        Version of the kernel driver, or "" where NVML is missing.
    cuda : str
        Newest CUDA version that the driver supports.
    """

    ordinal: int
    name: str
    uuid: str
    properties: Mapping[str, int]
    driver: str
    cuda: str

    @property
    def target(self) -> Target:
        """What code is generated for; equal to TVM's tag of the same GPU where it has one."""
        found = self.properties
        major, minor = found["capability_major"], found["capability_minor"]
        # From Hopper on, matrix and copy instructions belong to one architecture alone.
        suffix = "a" if major >= 9 else ""
        return Target.parse(
            {
                "kind": "cuda",
                "arch": f"sm_{major}{minor}{suffix}",
                "max_threads_per_block": found["max_threads_per_block"],
                "max_shared_memory_per_block": found["shared_memory_per_block"],
                "registers_per_block": found["registers_per_block"],
                "thread_warp_size": found["warp_size"],
                "l2_cache_size_bytes": found["l2_cache_bytes"],
            }
        )

    @property
    def facts(self) -> dict[str, str | int]:
        """Facts for a record's environment."""
        return {
            "device": self.name,
            "gpu_uuid": self.uuid,
            "multiprocessors": self.properties["multiprocessors"],
            "gpu_memory_bytes": self.properties["memory_bytes"],
            "gpu_clock_khz": self.properties["clock_khz"],
            "gpu_memory_clock_khz": self.properties["memory_clock_khz"],
            "gpu_memory_bus_bits": self.properties["memory_bus_bits"],
            "nvidia_driver": self.driver,
            "cuda": self.cuda,
        }


def ordinal_of(device: str) -> int:
    """Read the number off a device such as ``cuda:0``.

    Raises
    ------
    InputError
        It is no such device.
    """
    kind, colon, number = device.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InputError(f"device {device!r} is no GPU; write it as in cuda:0")
    return int(number or 0)


def find_gpu(ordinal: int) -> Gpu:
    """Ask the driver for a GPU. Initialises CUDA in this process, but makes no context.

    Raises
    ------
    UnavailableError
        There is no driver, or no such GPU.
    """
    call = _checked(_load(CUDA_LIBRARY), "cuGetErrorString")
    call("cuInit", 0)
    count, device, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    call("cuDeviceGetCount", ctypes.byref(count))
    if ordinal >= count.value:
        raise UnavailableError(
            f"there is no device cuda:{ordinal}: the driver shows this process {count.value} GPUs"
        )
    call("cuDeviceGet", ctypes.byref(device), ordinal)
    name, uuid = ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
    call("cuDeviceGetName", name, len(name), device)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    call("cuDeviceGetUuid_v2", uuid, device)
    version, value = ctypes.c_int(), ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(version))
    properties = {"memory_bytes": memory.value}
    for attribute, number in _ATTRIBUTES.items():
        call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        properties[attribute] = value.value
    return Gpu(
        ordinal=ordinal,
        name=name.value.decode(),
        uuid=_uuid_text(bytes(uuid)),
        properties=properties,
        driver=_driver_version(),
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


class Monitor:
    """Reads a GPU's clocks and what slows it down, by NVML.

    Parameters
    ----------
    uuid : str
        Of the GPU; NVML's own numbers ignore ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, uuid: str) -> None:
        self._call = _checked(_load(NVML_LIBRARY), None)
        self._call("nvmlInit_v2")
        self._handle = ctypes.c_void_p()
        self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(self._handle))

    def read(self) -> GpuState:
        """Read the state of this moment; takes well under a millisecond.

        Raises
        ------
        UnavailableError
            NVML cannot say it, as for a part of a GPU (MIG).
        """
        reasons = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetCurrentClocksThrottleReasons", self._handle, ctypes.byref(reasons))
        return GpuState(
            sm_mhz=self._number("nvmlDeviceGetClockInfo", _NVML_SM_CLOCK),
            memory_mhz=self._number("nvmlDeviceGetClockInfo", _NVML_MEMORY_CLOCK),
            temperature_celsius=self._number("nvmlDeviceGetTemperature", _NVML_TEMPERATURE),
            throttle=Throttle(reasons.value & sum(Throttle)),
        )

    def _number(self, function: str, which: int) -> int:
        value = ctypes.c_uint()
        self._call(function, self._handle, which, ctypes.byref(value))
        return value.value


def _load(library: str) -> Any:
    try:
        return ctypes.CDLL(library)
    except OSError:
        raise UnavailableError(
            f"{library} cannot be loaded: this machine has no NVIDIA driver"
        ) from None


def _checked(library: Any, explain: str | None) -> Callable[..., None]:
    """Return a caller of a library's functions that raises for every status but 0."""

    def call(function: str, *arguments: Any) -> None:
        status = getattr(library, function)(*arguments)
        if status:
            reason = ctypes.c_char_p()
            if explain is not None:
                getattr(library, explain)(status, ctypes.byref(reason))
            text = reason.value.decode() if reason.value else f"status {status}"
            raise UnavailableError(f"the NVIDIA driver refused {function}: {text}")

    return call


def _uuid_text(data: bytes) -> str:
    text = data.hex()
    return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _driver_version() -> str:
    try:
        call = _checked(_load(NVML_LIBRARY), None)
        call("nvmlInit_v2")
        text = ctypes.create_string_buffer(96)
        call("nvmlSystemGetDriverVersion", text, len(text))
    except UnavailableError:
        return ""
    return text.value.decode()
