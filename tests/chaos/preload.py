"""C libraries that take the place of parts of the operating system, for one process."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent


class Preload:
    """A compiled library of this directory, and the integers that it shares with this process.

    Parameters
    ----------
    name : str
        Of the C file.
    folder : Path
        For the library and the shared file.
    control : str
        The environment variable that names the shared file to the library.
    count : int
        How many integers are shared.

    Attributes
    ----------
    environment : dict
        For the process that is to be preloaded.
    """

    def __init__(self, name: str, folder: Path, *, control: str, count: int) -> None:
        library, shared = folder / f"{name}.so", folder / f"{name}.shared"
        source = SOURCES / f"{name}.c"
        options = ("-O2", "-fPIC", "-shared")
        subprocess.run(["gcc", *options, "-o", str(library), str(source), "-ldl"], check=True)
        shared.write_bytes(bytes(8 * count))
        with shared.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8 * count)
        self.environment = {"LD_PRELOAD": str(library), control: str(shared)}

    def __getitem__(self, index: int) -> int:
        value: int = struct.unpack_from("<q", self._shared, 8 * index)[0]
        return value

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("<q", self._shared, 8 * index, value)


def missing() -> str:
    """Say what this machine lacks, nothing where it lacks nothing."""
    return "" if shutil.which("gcc") else "not run: gcc, which compiles the fault, is missing"
