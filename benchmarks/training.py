"""Speed and memory of training: key frames per second, on one process and on several.

    python benchmarks/training.py --output output/training_speed  # R-101, 600x1000
    python benchmarks/training.py --output X --processes 1 8 SOLVER.AMP.ENABLED True
    python benchmarks/training.py --output X --small --size 160x224  # the nets of MovingShapes

Each row is trained by `train_net.py` in a process of its own, on a made-up set that is written once
(MovingShapes in frames of the given size) by the config's own schedule, cut to a few steps and
without a test. What is read are the `time` and `data_time` that Detectron2 notes of each step
(`metrics.json`, the median of the last ones), and the peak of memory: of the GPU as Detectron2 logs
it, else of the process. Rows that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from experiment import markdown_table, origin, run_step
from pipeline import SMALL, size_of
from streaming import ROWS

from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2.engine import load_config

# Of the set that is written.
VIDEOS, FRAMES = 4, 12


def make_data(root: Path, size: tuple[int, int]) -> None:
    """Write the set, unless it is there; frames of height and width `size`."""
    generate_moving_shapes(
        root,
        num_train_videos=VIDEOS,
        num_val_videos=1,
        num_frames=FRAMES,
        size=size[::-1],
        progress=False,
    )


def overrides(args: argparse.Namespace, processes: int) -> list[str]:
    """Return what makes the config of a row one of this measurement, with `args.opts` behind it."""
    fixed = {
        "DATASETS.TRAIN": "('moving_shapes_train',)",
        "DATASETS.TEST": "()",
        "MODEL.WEIGHTS": "",
        "SOLVER.MAX_ITER": args.steps,
        "SOLVER.STEPS": "()",
        "SOLVER.IMS_PER_BATCH": args.images * processes,
        "SOLVER.REFERENCE_WORLD_SIZE": 0,
        "TEST.EVAL_PERIOD": 0,
        "MODEL.ROI_HEADS.NUM_CLASSES": 8,
    }
    return [*(str(x) for pair in fixed.items() for x in pair), *args.opts]


def train(row: str, processes: int, args: argparse.Namespace) -> list[str]:
    """Train a row, unless it was, and return its line of the table."""
    folder = args.output / f"{row}_{processes}"
    config = (SMALL if args.small else ROWS)[row]
    opts = overrides(args, processes)
    command = ["train_net.py", "--config-file", config, "--num-gpus", str(processes)]
    step = run_step([*command, "OUTPUT_DIR", str(folder.resolve()), *opts], folder, "train")
    time, data_time = last_times(folder / "metrics.json")
    images = load_config(config, opts).SOLVER.IMS_PER_BATCH
    gpu = gpu_memory(folder / "log.txt")
    memory = f"{step.memory_mib:.0f} (process)" if gpu is None else f"{gpu} (GPU)"
    speed = images / time
    return [
        *(row, str(processes), str(images), f"{speed:.2f}", f"{1e3 * time:.0f}"),
        *(f"{data_time / time:.0%}", memory),
    ]


def last_times(metrics: Path) -> tuple[float, float]:
    """Return the last `time` of a step and the last `data_time`, in seconds.

    Raises:
        ValueError: the training was too short for Detectron2 to note them.
    """
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    noted = [line for line in lines if "time" in line and "data_time" in line]
    if not noted:
        raise ValueError(f"{metrics} has no times: train for more steps (--steps)")
    return noted[-1]["time"], noted[-1]["data_time"]


def gpu_memory(log: Path) -> int | None:
    """Return the peak of a GPU's memory in MiB, as Detectron2 logs it; None without a GPU."""
    found = re.findall(r"max_mem: (\d+)M", log.read_text())
    return int(found[-1]) if found else None


def main(argv: Sequence[str] | None = None) -> None:
    """Train all rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--small", action="store_true", help="the nets of MovingShapes")
    parser.add_argument("--size", type=size_of, default=(600, 1000), help="HEIGHTxWIDTH of frames")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--images", type=int, default=1, help="key frames per process and step")
    parser.add_argument("--processes", nargs="+", type=int, default=[1])
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the configs")
    args = parser.parse_args(argv)
    data = args.output.resolve() / "data"
    make_data(data / "moving_shapes", args.size)
    os.environ["DETECTRON2_DATASETS"] = str(data)  # that of the trainings
    print(*origin().values(), sep=", ")
    print(f"frames of {args.size[0]} x {args.size[1]}, {args.steps} steps\n")
    headers = ["row", "processes", "key frames per step", "key frames/s", "ms per step"]
    headers += ["waiting for data", "peak, MiB"]
    runs = [(row, processes) for processes in args.processes for row in args.rows]
    print(markdown_table(headers, [train(*run, args) for run in runs]))


if __name__ == "__main__":
    main()
