"""From TVM's CUDA source to machine code, on machines with and without a GPU.

TVM hands the source to a global function when its CUDA runtime is there, and leaves it as it is
where it is not (the runtime needs the driver's library). Here it is compiled in both cases, by the
same compiler for the same architecture, so that a program which compiles on one machine compiles on
all. Imports TVM.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm.support import nvcc as tvm_nvcc

from schedules import trace as traces
from schedules.errors import UnavailableError
from schedules.target import Target

# What TVM itself passes: with these the code that a user's build generates is the code measured.
_OPTIONS = (
    "-O3",
    "-U__CUDA_NO_HALF_OPERATORS__",
    "-U__CUDA_NO_HALF_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT16_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
    "-U__CUDA_NO_BFLOAT162_OPERATORS__",
    "-U__CUDA_NO_BFLOAT162_CONVERSIONS__",
    "--expt-relaxed-constexpr",
    "--expt-extended-lambda",
    "--use_fast_math",
    "--ptxas-options=-v,--register-usage-level=10",
)

# What ptxas says of each kernel; shared memory that is sized at the launch is not in it.
_RESOURCES: Mapping[str, str] = {
    "registers_per_thread": r"Used (\d+) registers",
    "shared_bytes": r"(\d+) bytes smem",
    "stack_bytes": r"(\d+) bytes stack frame",
    "spill_store_bytes": r"(\d+) bytes spill stores",
    "spill_load_bytes": r"(\d+) bytes spill loads",
}


_compiler: ContextVar[Callable[[str], bytes]] = ContextVar("compiler")


class CompilerError(Exception):
    """The CUDA compiler refused a source; the text is its own."""


@dataclass(frozen=True, kw_only=True)
class CudaBuild:
    """A built candidate.

    Attributes
    ----------
    library : Any
        TVM's runtime module; it can be called only where there is a GPU.
    binary : bytes
        The machine code (cubin) of all kernels.
    resources : Mapping[str, int]
        What the kernel that needs most of each uses.
    """

    library: Any
    binary: bytes
    resources: Mapping[str, int]


def build(module: Any, target: Target) -> CudaBuild:
    """Compile a scheduled module for a GPU that need not be there.

    Parameters
    ----------
    module : tvm.IRModule
        With one function ``main``.

    Raises
    ------
    CompilerError
        The CUDA compiler refuses what TVM generated.
    UnavailableError
        There is no CUDA compiler.
    """
    arch = str(target.attributes["arch"])
    compiled: list[tuple[bytes, dict[str, int]]] = []

    def compiler(source: str) -> bytes:
        compiled.append(compile_source(source, arch))
        return compiled[-1][0]

    token = _compiler.set(compiler)
    try:
        library = traces.build(module, tvm.target.Target(target.as_dict(), host="llvm"))
    finally:
        _compiler.reset(token)
    if not compiled:
        # Without a CUDA runtime TVM kept the source.
        compiler(str(library.imports[0].inspect_source("cuda")))
    binary, resources = compiled[-1]
    return CudaBuild(library=library, binary=binary, resources=resources)


def compiler_version() -> str:
    """Return which CUDA compiler `build` uses, such as ``nvcc 13.0``; "" where there is none."""
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        told = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"release (\S+),", told.stdout)
        return f"nvcc {found[1]}" if found else "nvcc"
    if find_spec("cuda") is not None and find_spec("cuda.bindings") is not None:
        return f"NVRTC, cuda-bindings {version('cuda-bindings')}"
    return ""


def _compile_for_tvm(source: str) -> bytes:
    """Compile what TVM generates inside `build`; where TVM has its CUDA runtime, it calls this."""
    return _compiler.get()(source)


tvm_ffi.register_global_func("tvm_callback_cuda_compile", _compile_for_tvm, override=True)


def compile_source(source: str, arch: str) -> tuple[bytes, dict[str, int]]:
    """Compile CUDA source.

    Returns
    -------
    tuple of (bytes, dict)
        The machine code and what it uses, see `CudaBuild`; NVRTC does not say the latter.

    Raises
    ------
    CompilerError
        The compiler refuses it.
    UnavailableError
        There is no CUDA compiler.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        return _compile_by_nvcc(nvcc, source, arch)
    return _compile_by_nvrtc(source, arch)


def _compile_by_nvcc(nvcc: str, source: str, arch: str) -> tuple[bytes, dict[str, int]]:
    number = arch.removeprefix("sm_")
    with tempfile.TemporaryDirectory(prefix="tunesmith-cuda-") as folder:
        code, binary = Path(folder) / "kernels.cu", Path(folder) / "kernels.cubin"
        code.write_text(source, encoding="utf-8")
        # The short spelling, -arch=sm_90a, also runs a pass for sm_90, which lacks instructions.
        command = [nvcc, "--cubin", f"-gencode=arch=compute_{number},code=sm_{number}"]
        done = subprocess.run(
            [*command, *_OPTIONS, "-o", str(binary), str(code)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CompilerError(f"nvcc: {done.stderr.strip() or done.stdout.strip()}")
        return binary.read_bytes(), _resources(done.stdout + done.stderr)


def _compile_by_nvrtc(source: str, arch: str) -> tuple[bytes, dict[str, int]]:
    try:
        with tvm.target.Target({"kind": "cuda", "arch": arch}):
            binary = tvm_nvcc.compile_cuda(
                source, target_format="cubin", arch=arch, compiler="nvrtc"
            )
    except RuntimeError as error:
        if "cuda-bindings" in str(error):
            raise UnavailableError(
                "there is no CUDA compiler: put nvcc on the PATH, or install cuda-bindings and "
                "nvidia-cuda-nvrtc"
            ) from None
        raise CompilerError(f"NVRTC: {error}") from None
    return bytes(binary), {}


def _resources(log: str) -> dict[str, int]:
    """Read the compiler's report; of several kernels the largest value of each counts."""
    found: dict[str, int] = {}
    for name, pattern in _RESOURCES.items():
        values = [int(value) for value in re.findall(pattern, log)]
        if values:
            found[name] = max(values)
    return found
