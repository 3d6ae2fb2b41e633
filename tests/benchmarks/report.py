"""What the benchmarks and the fault runs have in common: how they write down what they found.

A run prints its tables in Markdown and, as its last line, one JSON object. A full run also writes
both to ``docs/benchmarks/``, with the commit, the machine and the date; a quick one never does.
"""

import json
import os
import platform
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import exp, log
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "benchmarks"

Cell = str | int | float


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a report."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """Write the table in Markdown."""
        lines = [f"## {self.title}", "", _row(self.columns), _row(["---"] * len(self.columns))]
        return "\n".join([*lines, *(_row(row) for row in self.rows)])


class Checkpoint:
    """Parts of a long run that are finished, so that a run which was cut off goes on after them.

    Parameters
    ----------
    name : str
        Of the run.
    quick : bool
        Whether it is a shrunk run, whose parts are none of a full one.
    fresh : bool
        Forget what an earlier run finished.
    version : str, optional
        Of the code that is run: parts of another version are worthless. The project's commit where
        nothing is given.

    Notes
    -----
    Thread-safe.
    """

    def __init__(
        self, name: str, *, quick: bool = False, fresh: bool = False, version: str | None = None
    ) -> None:
        size = "-quick" if quick else ""
        self._path = ROOT / "build" / "benchmarks" / f"{name}{size}-{version or commit()}.json"
        self._lock = threading.Lock()
        self._parts: dict[str, Any] = {}
        if self._path.exists() and not fresh:
            self._parts = json.loads(self._path.read_text(encoding="utf-8"))

    def has(self, name: str) -> bool:
        """Whether a part is finished."""
        return name in self._parts

    def part(self, name: str, run: Callable[[], Any]) -> Any:
        """Return a part's result, which is plain JSON data, running it if it is not known yet."""
        if name not in self._parts:
            self._keep(name, run())
        return self._parts[name]

    def _keep(self, name: str, result: Any) -> None:
        with self._lock:
            self._parts[name] = result
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(self._parts), encoding="utf-8")
            partial.replace(self._path)


def publish(
    name: str,
    *,
    title: str,
    text: str,
    tables: Sequence[Table],
    keys: Mapping[str, object],
    quick: bool,
) -> None:
    """Print a report, and keep it under ``docs/benchmarks/`` unless it is a quick one.

    Parameters
    ----------
    name : str
        Of the make target; names the files.
    title, text : str
        Heading, and what was measured and how, in Markdown.
    tables : sequence of Table
        The figures.
    keys : Mapping
        What the last line holds, besides the commit, the machine and the date.
    """
    found: dict[str, Any] = {
        **keys,
        "quick": quick,
        **origin(),
    }
    made = f"`make {name}` on {found['machine']}, {found['date']}, commit `{found['commit'][:12]}`."
    parts = [f"# {title}", text.strip(), made, *(table.markdown() for table in tables)]
    report = "\n\n".join(parts) + "\n"
    print(report)
    line = json.dumps(found)
    if not quick:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.md").write_text(report, encoding="utf-8")
        (RESULTS / f"{name}.json").write_text(line + "\n", encoding="utf-8")
    print(line, flush=True)


def geomean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return exp(sum(map(log, values)) / len(values))


def origin() -> dict[str, str]:
    """Return what figures that are measured now are of: commit, machine and date."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return {"commit": commit(), "machine": machine(), "date": date}


def machine() -> str:
    """Describe the machine in a few words."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{model}, {os.cpu_count()} cores, {memory_bytes / 2**30:.0f} GiB"


def commit() -> str:
    """Return which commit this is, with a mark where anything but documents was changed.

    Reports are documents: one that is written does not change what the next is measured with.
    """
    found = _git("rev-parse", "HEAD")
    if found:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":(exclude)docs")
        return f"{found}-dirty" if changed else found
    # A packed copy has no history; what it was made of is written down beside it.
    packed = ROOT / "commit.txt"
    return packed.read_text().strip() if packed.exists() else "unknown"


def _git(*arguments: str) -> str:
    """Return what git prints; nothing where it fails."""
    answer = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()


def _row(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(cell: Cell) -> str:
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)
