"""Targets as plain data: what code is generated for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from schedules.errors import InvalidTargetError
from schedules.identity import sha256_id

NATIVE = "native"

Attribute = str | int | tuple[str, ...]

CUDA_ARCH = re.compile(r"sm_(\d+)(\d)[af]?")
_TAG = re.compile(r"[a-z0-9]+(?:/[a-z0-9._-]+)+")

# TVM derives these from the kind; a target with them is the same target.
_DERIVED = frozenset({"kind", "keys", "tag", "host", "max_num_threads"})

_ATTRIBUTE_TYPES: Mapping[str, Mapping[str, type]] = MappingProxyType(
    {
        "llvm": MappingProxyType({"mcpu": str, "mtriple": str, "mattr": tuple, "num-cores": int}),
        "cuda": MappingProxyType(
            {
                "arch": str,
                "max_threads_per_block": int,
                "max_shared_memory_per_block": int,
                "thread_warp_size": int,
                "registers_per_block": int,
                "l2_cache_size_bytes": int,
            }
        ),
    }
)

# What all GPUs since compute capability 5.0 have in common. Schedules are checked against it, so a
# target that leaves it out would be searched without bounds.
_CUDA_LIMITS: Mapping[str, Attribute] = MappingProxyType(
    {
        "max_shared_memory_per_block": 48 * 2**10,
        "max_threads_per_block": 1024,
        "registers_per_block": 64 * 2**10,
        "thread_warp_size": 32,
    }
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What code is generated for.

    Attributes
    ----------
    kind : str
        ``llvm`` for CPUs, ``cuda`` for NVIDIA GPUs.
    attributes : Mapping[str, str | int | tuple of str]
        The attributes of TVM's target that change the generated code, under TVM's names.
    """

    kind: str
    attributes: Mapping[str, Attribute]

    @classmethod
    def parse(cls, description: Mapping[str, object]) -> "Target":
        """Check a target dict as TVM writes it.

        Raises
        ------
        InvalidTargetError
            The kind is unknown, an attribute is unknown or has the wrong type, or an ``llvm``
            target lacks ``mcpu`` or ``num-cores``, or a ``cuda`` target ``arch``.
        """
        kind = description.get("kind")
        if not isinstance(kind, str) or kind not in _ATTRIBUTE_TYPES:
            raise InvalidTargetError(
                f"target kind {kind!r} is unknown; use one of {', '.join(_ATTRIBUTE_TYPES)}"
            )
        types = _ATTRIBUTE_TYPES[kind]
        attributes: dict[str, Attribute] = {}
        for name, value in description.items():
            if name in _DERIVED:
                continue
            if name not in types:
                raise InvalidTargetError(
                    f"target kind {kind} has no attribute {name!r} here; use {', '.join(types)}"
                )
            attributes[name] = _attribute(name, value, types[name])
        if kind == "llvm":
            for needed in ("mcpu", "num-cores"):
                if needed not in attributes:
                    raise InvalidTargetError(
                        f"an llvm target needs {needed!r}: records are valid for one CPU model "
                        "and core count only"
                    )
        if kind == "cuda":
            _check_cuda(attributes)
            attributes = {**_CUDA_LIMITS, **attributes}
        return cls(kind=kind, attributes=MappingProxyType(dict(sorted(attributes.items()))))

    @property
    def target_id(self) -> str:
        """SHA-256 of the code generation attributes."""
        return sha256_id(self.as_dict())

    @property
    def cores(self) -> int:
        """Number of cores that a CPU kernel runs on; 1 for the host side of a GPU."""
        cores = self.attributes.get("num-cores", 1)
        return cores if isinstance(cores, int) else 1

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Major and minor number of a GPU's architecture; (0, 0) for a CPU."""
        found = CUDA_ARCH.fullmatch(str(self.attributes.get("arch", "")))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def stands_for(self, other: "Target") -> bool:
        """Whether it is another target as people write it, who name the CPU and not what it lacks.

        Hypervisors hide features of a CPU, most of all AMX; a native target then says so.
        """
        rest = {name: value for name, value in other.attributes.items() if name != "mattr"}
        features = other.attributes.get("mattr", ())
        lacks_only = isinstance(features, tuple) and all(name.startswith("-") for name in features)
        return self == other or (
            self.kind == other.kind and lacks_only and dict(self.attributes) == rest
        )

    def as_dict(self) -> dict[str, object]:
        """Return the dict that TVM's ``Target`` takes."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.attributes.items()
        }
        return {"kind": self.kind, **plain}

    def __str__(self) -> str:
        shown = " ".join(
            f"{name}={','.join(value) if isinstance(value, tuple) else value}"
            for name, value in self.attributes.items()
        )
        return f"{self.kind} {shown}".strip()


def is_tag(text: str) -> bool:
    """Whether a text looks like one of TVM's target tags, such as ``nvidia/nvidia-h100``."""
    return _TAG.fullmatch(text) is not None


def _check_cuda(attributes: Mapping[str, Attribute]) -> None:
    arch = attributes.get("arch")
    if arch is None:
        raise InvalidTargetError(
            "a cuda target needs 'arch', such as 'sm_90': without it the compiler would look for a "
            "GPU of its own"
        )
    if not CUDA_ARCH.fullmatch(str(arch)):
        raise InvalidTargetError(f"arch {arch!r} is no CUDA architecture; write it as in 'sm_90'")


def _attribute(name: str, value: object, kind: type) -> Attribute:
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(sorted(value))
    if kind is int and isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if kind is str and isinstance(value, str) and value.strip():
        return value
    wanted = {tuple: "a list of strings", int: "a positive integer", str: "a non-empty string"}
    raise InvalidTargetError(f"target attribute {name!r} must be {wanted[kind]}, not {value!r}")
