"""What this machine is: its native target and its environment facts. Imports TVM."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

import tvm

from schedules import rewrites, vector_math
from schedules.records import Environment
from schedules.target import Target

# The extensions that change which schedules are good; the full list is in the compiler's hands.
_NOTABLE_ISA = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "sve",
    "sve2",
)

# Of LLVM's names, those of instructions that change what code a kernel becomes.
_CODE_FEATURES = ("amx", "avx", "f16c", "fma", "sse")


def native_target() -> Target:
    """Return the target of the CPU that this process may run on.

    The triple is left out: the compiler's default is this machine's own, and its spelling differs
    between builds of LLVM that generate the same code. What the CPU's model has and this machine
    lacks, as where a hypervisor hides AMX, is taken off by ``mattr``.
    """
    mcpu = str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())
    target: dict[str, object] = {"kind": "llvm", "mcpu": mcpu, "num-cores": usable_cores()}
    present = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
    of_model = tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target(target))
    lacking = [
        name
        for name in map(str, of_model)
        if name.startswith(_CODE_FEATURES) and not present.get(name, True)
    ]
    if lacking:
        target["mattr"] = [f"-{name}" for name in lacking]
    return Target.parse(target)


def native_environment() -> Environment:
    """Return the facts of this machine that a measurement depends on."""
    facts: dict[str, str | int] = {
        "device": _cpu_model(),
        "isa": " ".join(_isa()),
        "cores": usable_cores(),
        **_cache_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "tvm": version("apache-tvm"),
        "tvm_ffi": version("apache-tvm-ffi"),
        "vector_math": vector_math.VERSION,
        "rewrites": rewrites.VERSION,
        "llvm": int(tvm.target.codegen.llvm_version_major()),
    }
    return Environment(facts=MappingProxyType(dict(sorted(facts.items()))))


def usable_cores() -> int:
    """Return how many cores this process may run on: affinity counts, not what is built in."""
    return len(os.sched_getaffinity(0))


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _cpu_model() -> str:
    return _cpuinfo("model name") or _cpuinfo("CPU part") or platform.processor() or "unknown"


def _isa() -> list[str]:
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for name in _NOTABLE_ISA if name in flags]


def _cache_bytes() -> dict[str, int]:
    """Read the size of each data cache level from the kernel's topology files."""
    sizes: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() == "Instruction":
            continue
        level = (index / "level").read_text().strip()
        text = (index / "size").read_text().strip()
        unit = {"K": 2**10, "M": 2**20}.get(text[-1], 1)
        sizes[f"l{level}_cache_bytes"] = int(text.rstrip("KM")) * unit
    return sizes
