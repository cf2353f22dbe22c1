"""What experiments share: steps as child processes, and a CSV whose rows tell their origin."""

from __future__ import annotations

import csv
import importlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from iff_detectron2.utils.files import open_atomically

CHECKOUT = Path(__file__).resolve().parents[1]
ORIGIN = ("commit", "versions", "machine")
Row = Mapping[str, str]


class Step(NamedTuple):
    """What is known of a step that has ended: its cost, and where it ran (see `origin`).

    Attributes:
        seconds: time that it took; of one that was interrupted, that of its last part.
        memory_mib: most memory that its process held.
    """

    seconds: float
    memory_mib: float
    commit: str
    versions: str
    machine: str


def origin() -> dict[str, str]:
    """Tell commit (with a + where files differ from it), versions and machine."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    names = ("iff_detectron2", "torch", "detectron2", "numpy")
    # Not from their metadata, which packages that lie on the path do not have.
    versions = " ".join(f"{name} {importlib.import_module(name).__version__}" for name in names)
    return {
        "commit": git("rev-parse", "--short=10", "HEAD") + changed,
        "versions": f"Python {platform.python_version()} {versions}",
        "machine": f"{_processor()}, {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def finished(folder: Path, name: str) -> Step | None:
    """Return what is known of a step of a run that has ended well; None if it has not.

    Raises:
        ValueError: the file that tells it is damaged.
    """
    done = folder / f"{name}.done.json"
    if not done.is_file():
        return None
    try:
        return Step(**json.loads(done.read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{done} cannot be read ({error}); remove it to do the step again"
        ) from None


def write_down(step: Step, folder: Path, name: str) -> None:
    """Write what `finished` returns."""
    with open_atomically(folder / f"{name}.done.json") as stream:
        stream.write(json.dumps(step._asdict(), indent=1) + "\n")


def run_step(command: Sequence[str], folder: Path, name: str) -> Step:
    """Run a step of an experiment unless it has ended before; the command resumes by itself.

    Args:
        command: arguments of Python.
        folder: of the run; gets `NAME.log`, and `NAME.done.json` when the step has ended well.
        name: of the step.

    Raises:
        RuntimeError: the step failed; its log says why.
    """
    known = finished(folder, name)
    if known is not None:
        return known
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{folder.name}: {name}", flush=True)
    where, start, log = origin(), time.monotonic(), folder / f"{name}.log"
    with log.open("a") as stream:
        arguments = [sys.executable, *command]
        child = subprocess.Popen(arguments, cwd=CHECKOUT, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{name} ended with code {child.returncode}: see the end of {log}")
    memory = round(usage.ru_maxrss / 1024, 1)
    step = Step(round(time.monotonic() - start, 1), memory, **where)
    write_down(step, folder, name)
    return step


class ResultsFile:
    """A CSV of results, a row for each value of its key columns."""

    def __init__(self, path: Path, keys: Sequence[str], columns: Sequence[str]) -> None:
        """
        Args:
            path: of the file, which is made with the first row.
            keys: columns that tell rows apart.
            columns: the others, without those that tell the origin.
        """
        self.path = path
        self.keys = tuple(keys)
        self.columns = (*keys, *columns, *ORIGIN)

    def rows(self) -> list[dict[str, str]]:
        """Read all rows; none where there is no file yet.

        Raises:
            ValueError: the file has other columns.
        """
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != self.columns:
                raise ValueError(
                    f"{self.path} has the columns {reader.fieldnames}, wanted are "
                    f"{list(self.columns)}; move it away"
                )
            return list(reader)

    def has(self, **key: object) -> bool:
        """Whether there is a row of this key."""
        return any(all(row[k] == str(v) for k, v in key.items()) for row in self.rows())

    def add(self, values: Mapping[str, object]) -> None:
        """Add a row, in place of an older one of the same key."""
        row = {name: _text(values[name]) for name in self.columns}
        rows = [r for r in self.rows() if any(r[k] != row[k] for k in self.keys)] + [row]
        rows.sort(key=lambda r: tuple(r[k] for k in self.keys))
        with open_atomically(self.path) as stream:
            writer = csv.DictWriter(stream, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _text(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def read_metrics(results: Path) -> dict[str, float]:
    """Return of a `results.json` what the tables show.

    mAP50 and, where it has them, `slow`, `medium`, `fast` in percent; `stability_error` and
    `average_delay`.
    """
    content = json.loads(results.read_text())
    values = {"mAP50": content["bbox"]["mAP50"]}
    for speed in ("slow", "medium", "fast"):
        values[speed] = content["bbox"].get(f"mAP50-{speed}")
    for name in ("stability_error", "average_delay"):
        values[name] = (content["viewing"] or {}).get(name)
    return {name: float("nan") if value is None else value for name, value in values.items()}


def mean_and_deviation(values: Iterable[str | float], digits: int = 1) -> str:
    """Write the mean of numbers, and their standard deviation where there are several.

    NaN stands for what was not measured, and counts for nothing.
    """
    numbers = [number for number in map(float, values) if not math.isnan(number)]
    if not numbers:
        return "-"
    mean = f"{statistics.mean(numbers):.{digits}f}"
    if len(numbers) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(numbers):.{digits}f}"


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table for the docs."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def replace_table(page: Path, name: str, table: str) -> None:
    """Put a table into a page of the docs between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: the page has no such place.
    """
    before, after = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    head, found, rest = page.read_text().partition(before)
    _, ended, tail = rest.partition(after)
    if not found or not ended:
        raise ValueError(f"{page} has no place for the table {name!r}")
    with open_atomically(page) as stream:
        stream.write(head + before + table + after + tail)
