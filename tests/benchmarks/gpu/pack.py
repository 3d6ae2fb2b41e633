"""Packs what `bench_gpu` needs on a machine without a network, beside what is installed there.

Run as ``python -m tests.benchmarks.gpu.pack FOLDER --python 3.12`` in the project's environment. It
makes two archives, so that they can be brought over one after the other where there is a limit, and
``run.sh``, which unpacks both and passes its arguments on to `bench_gpu`:

``compiler.tar.xz``
    TVM's compiler library, more than all the rest (some 55 MiB; takes minutes to compress).
``site.tar.xz``
    This project, TVM's other parts, and the packages of `PACKAGES` for that Python (some 16 MiB).

NumPy, SciPy, httpx, click, rich, ml_dtypes, Jinja2, prometheus-client, uvloop, PyArrow, PyTorch,
Triton and CUDA 13 are taken to be there.
"""

import argparse
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import tvm

from tests.benchmarks.report import ROOT, commit

PACKAGES = (
    "alembic",
    "annotated-types",
    "apache-tvm-ffi",
    "fastapi",
    "httptools",
    "Mako",
    "opentelemetry-api",
    "psycopg",
    "psycopg-binary",
    "pydantic",
    "pydantic-core",
    "pydantic-settings",
    "python-dotenv",
    "SQLAlchemy",
    "starlette",
    "typing-inspection",
    "uvicorn",
)

# The last release with a small library: later ones carry 130 MiB of CUDA code that is not used.
XGBOOST = "xgboost==3.0.5"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
COMPILER = "tvm/lib/libtvm_compiler.so"
# Needed to build against TVM, not to run it.
TVM_LEFT_OUT = ("3rdparty", "include", "src", "web", "cmake", "licenses")

RUN = """#!/bin/sh
# Unpacks the environment and runs the benchmark; arguments go to it.
set -e
here=$(cd "$(dirname "$0")" && pwd)
at=${TUNESMITH_AT:-/tmp/tunesmith-gpu}
mkdir -p "$at"
for archive in compiler site; do
    if [ -f "$here/$archive.tar.xz" ]; then tar -C "$at" -xJf "$here/$archive.tar.xz"; fi
done
cudart=$(find / -name 'libcudart.so.13*' -not -path '/proc/*' 2>/dev/null | head -n 1)
export LD_LIBRARY_PATH="$(dirname "$cudart"):$LD_LIBRARY_PATH"
export PYTHONPATH="$at/repo:$at:$PYTHONPATH" PYTHONUNBUFFERED=1
cd "$at/repo"
exec python3 -m tests.benchmarks.bench_gpu "$@"
"""


def main(arguments: Sequence[str]) -> None:
    """Make the archives."""
    parser = argparse.ArgumentParser(prog="pack", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", required=True, help="Python's version there, such as 3.12")
    parser.add_argument("--preset", type=int, default=9, help="of xz: 0 is fast, 9 is small")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tunesmith-pack-") as work:
        site = Path(work) / "site"
        site.mkdir()
        _install(Path(work), site, options.python)
        _copy_tvm(site)
        for name in ("tests", "pyproject.toml"):
            _copy(ROOT / name, site / "repo" / name)
        (site / "repo" / "commit.txt").write_text(commit())
        _archive(options.folder / "compiler.tar.xz", site, [site / COMPILER], options.preset)
        rest = (path for path in _files(site) if path != site / COMPILER)
        _archive(options.folder / "site.tar.xz", site, rest, options.preset)
    script = options.folder / "run.sh"
    script.write_text(RUN, encoding="utf-8")
    script.chmod(0o755)
    for path in sorted(options.folder.iterdir()):
        print(f"{path.stat().st_size / 2**20:7.1f} MiB  {path}")


def _install(work: Path, site: Path, python: str) -> None:
    """Unpack the wheels of the other Python, and this project's own."""
    wheels = work / "wheels"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    chosen = ["--python-version", python, "--implementation", "cp", "--only-binary=:all:"]
    pinned = [f"{name}=={version(name)}" for name in PACKAGES]
    for platforms, names in ((PLATFORMS, pinned), (PLATFORMS[1:], [XGBOOST])):
        tags = [part for platform in platforms for part in ("--platform", platform)]
        _run([*pip, "download", "--no-deps", *chosen, *tags, "-d", str(wheels), *names])
    _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(ROOT)])
    for wheel in sorted(wheels.iterdir()):
        # A wheel is an archive of what goes into the folder; scripts are not needed.
        shutil.unpack_archive(wheel, site, "zip")


def _copy_tvm(site: Path) -> None:
    package = Path(tvm.__file__).parent
    left_out = shutil.ignore_patterns("__pycache__")
    site.joinpath("tvm").mkdir()
    for path in package.iterdir():
        if path.name not in (*TVM_LEFT_OUT, "__pycache__"):
            _copy(path, site / "tvm" / path.name)
    metadata = f"apache_tvm-{version('apache-tvm')}.dist-info"
    shutil.copytree(package.parent / metadata, site / metadata, ignore=left_out)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if not path.is_dir())


def _archive(archive: Path, root: Path, paths: Iterable[Path], preset: int) -> None:
    filters = [
        # Nearly all of it is machine code.
        {"id": lzma.FILTER_X86},
        {"id": lzma.FILTER_LZMA2, "preset": preset | lzma.PRESET_EXTREME},
    ]
    with (
        lzma.open(archive, "wb", filters=filters) as file,
        tarfile.open(fileobj=file, mode="w") as packed,
    ):
        for path in paths:
            packed.add(path, path.relative_to(root))


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
