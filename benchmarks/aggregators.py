"""Ways of aggregation under one protocol: trains each on MovingShapes, prints one table.

    python benchmarks/aggregators.py [--only rfcn average ...] [--iterations N] [--output FOLDER]

Each row is `train_net.py` on a config of `configs/MovingShapes/`: tens of minutes of a CPU core.
Interrupted, it goes on at the last checkpoint; rows that are done are read, not trained again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate

from iff_detectron2.data.datasets.builtin import datasets_root
from iff_detectron2.data.moving_shapes import generate_moving_shapes

ROOT = Path(__file__).resolve().parents[1]
ROWS = {
    "rfcn": "none",
    "average": "plain average",
    "similarity": "weights of FGFA, no flow",
    "deformable": "deformable sampling (STSN's idea)",
    "optflow_B": "FGFA with FlowNetS",
    "iff_net_A": "IFF basic",
    "iff_net_B": "IFF basic, TRL",
    "iff_net_C": "IFF advanced, TRL",
}
METRICS = ["mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast"]


def iterations_done(folder: Path) -> int:
    """Training iterations behind the evaluation of a row; 0 where there is none."""
    if not (folder / "inference/moving_shapes_val/results.json").is_file():
        return 0
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return max((row["iteration"] + 1 for row in rows if "iteration" in row), default=0)


def run(name: str, folder: Path, iterations: int) -> dict[str, float]:
    """Trains and tests a row, unless that is done, and returns its metrics."""
    if iterations_done(folder) < iterations:
        command = [
            *(sys.executable, "train_net.py", "--config-file", f"configs/MovingShapes/{name}.yaml"),
            *("--resume", "OUTPUT_DIR", str(folder), "SOLVER.MAX_ITER", str(iterations)),
        ]
        print("$", *command[1:], flush=True)
        subprocess.run(command, cwd=ROOT, check=True)
    results = json.loads((folder / "inference/moving_shapes_val/results.json").read_text())
    return results["bbox"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--iterations", type=int, default=800)
    parser.add_argument("--output", type=Path, default=Path("output/MovingShapes"))
    args = parser.parse_args()
    generate_moving_shapes(datasets_root() / "moving_shapes")
    table = []
    for name in args.only:
        metrics = run(name, args.output.resolve() / name, args.iterations)
        table.append([ROWS[name], name, *(metrics.get(metric) for metric in METRICS)])
    headers = ["aggregation", "config", "all", "slow", "medium", "fast"]
    print(f"mAP50 (FGFA's protocol) on moving_shapes_val after {args.iterations} iterations")
    print(tabulate(table, headers, tablefmt="github", floatfmt=".1f", missingval="n/a"))


if __name__ == "__main__":
    main()
