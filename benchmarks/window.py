"""Price and benefit of the window: mAP50, stability and milliseconds per frame of one model.

    python benchmarks/window.py --config-file CONFIG --weights CHECKPOINT [--refs 0 2 4 8 12 20]
        [--strides 1 2 4] [--videos 20] [--plot FILE] [KEY VALUE ...]
    python benchmarks/window.py --tables

Runs the model over the first test set once per window, as `iff-detectron2 predict` does, causal and
not. Each window is a row of results/window.csv; what is there already is not run again. `--tables`
makes the table of docs/results.md from that file alone.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from experiment import CHECKOUT, ResultsFile, Row, markdown_table, origin, replace_table

from iff_detectron2.engine import VideoPredictor, load_config
from iff_detectron2.engine.frame_detector import load_model
from iff_detectron2.evaluation import EvaluationDataset, EvaluationResult, evaluate_arrays
from iff_detectron2.structures import Detections
from iff_detectron2.video.frames import read_frame

PAGE = CHECKOUT / "docs" / "results.md"
METRICS = ("mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast")
COLUMNS = (*METRICS, "stability_error", "ms_per_frame", "frames")


def results_file(path: Path) -> ResultsFile:
    """Open the CSV of this experiment."""
    return ResultsFile(path, ("dataset", "weights", "causal", "stride", "num_refs"), COLUMNS)


def windows(refs: Sequence[int], strides: Sequence[int]) -> Iterator[tuple[int, int, bool]]:
    """List number of reference frames, stride and causality; without reference frames once."""
    if 0 in refs:
        yield 0, 1, False
    for stride, causal, count in itertools.product(strides, (False, True), refs):
        if count:
            yield count, stride, causal


def measure(
    cfg, model, dataset: EvaluationDataset, videos: int
) -> tuple[EvaluationResult, float, int]:
    """Run over the first videos of a set; returns scores, milliseconds per frame and frames.

    The time is that of pictures in memory to detections; reading files does not count.
    """
    rows: dict[str, list[int]] = {}
    for row, frame in enumerate(dataset.frames):
        rows.setdefault(frame["video_id"], []).append(row)
    chosen = list(rows.values())[:videos]
    predictor = VideoPredictor(cfg, model)
    found, seconds, count = [], 0.0, 0
    for video in chosen:
        pictures = [read_frame(dataset.frames[row]["file_name"], "BGR") for row in video]
        start = time.perf_counter()
        results = [(video[t], instances) for t, _, instances in predictor(pictures)]
        seconds += time.perf_counter() - start
        count += len(video)
        found.append(Detections.from_instances(results))
    truth = dataset.ground_truth
    # The first videos are the first rows.
    truth = truth[np.flatnonzero(truth.frames < count)]
    return evaluate_arrays(truth, Detections.concatenate(found)), 1e3 * seconds / count, count


def table(rows: Sequence[Row]) -> str:
    """Make the table of the docs."""
    heads = ["reference frames", "stride", "causal", *METRICS, "stability error", "ms per frame"]
    lines = [
        [
            *(row["num_refs"], row["stride"], "yes" if row["causal"] == "True" else "no"),
            *(f"{float(row[metric]):.1f}" for metric in METRICS),
            *(f"{float(row['stability_error']):.3f}", f"{float(row['ms_per_frame']):.0f}"),
        ]
        for row in sorted(rows, key=lambda r: (r["causal"], int(r["stride"]), int(r["num_refs"])))
    ]
    return markdown_table(heads, lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw mAP50 over the milliseconds per frame, a line per stride and kind of window."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5))
    alone = [row for row in rows if row["num_refs"] == "0"]
    for stride, causal in sorted({(r["stride"], r["causal"]) for r in rows if r not in alone}):
        line = [r for r in rows if (r["stride"], r["causal"]) == (stride, causal)]
        line = sorted(
            [*alone, *(r for r in line if r not in alone)], key=lambda r: int(r["num_refs"])
        )
        times, values = ([float(r[name]) for r in line] for name in ("ms_per_frame", "mAP50"))
        label = f"stride {stride}" + (", causal" if causal == "True" else "")
        axis.plot(times, values, "o--" if causal == "True" else "o-", label=label)
        for r, x, y in zip(line, times, values, strict=True):
            axis.annotate(
                r["num_refs"], (x, y), fontsize=7, textcoords="offset points", xytext=(3, 3)
            )
    axis.set_xlabel("milliseconds per frame")
    axis.set_ylabel("mAP50")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the windows that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--config-file")
    parser.add_argument("--weights")
    parser.add_argument("--refs", type=int, nargs="+", default=[0, 2, 4, 8, 12, 20])
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--videos", type=int, default=20, help="the first videos of the test set")
    parser.add_argument("--csv", type=Path, default=CHECKOUT / "results" / "window.csv")
    parser.add_argument("--plot", type=Path, help="also draw into this file")
    parser.add_argument("--tables", action="store_true", help="only write the table of the docs")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="overrides of the config")
    args = parser.parse_args(argv)
    file = results_file(args.csv)
    if args.tables:
        replace_table(PAGE, "window", table(file.rows()))
        return
    if not (args.config_file and args.weights):
        parser.error("--config-file and --weights say which model to measure")
    cfg = load_config(args.config_file, [*args.opts, "MODEL.WEIGHTS", args.weights])
    name = cfg.DATASETS.TEST[0]
    dataset, model = EvaluationDataset.load(name), None
    for num_refs, stride, causal in windows(args.refs, args.strides):
        weights = "/".join(Path(args.weights).parts[-2:])
        key = {"dataset": name, "weights": weights, "num_refs": num_refs}
        key |= {"stride": stride, "causal": causal}
        if file.has(**key):
            continue
        own = cfg.clone()
        own.defrost()
        video = own.TEST.VIDEO
        video.NUM_REFS, video.STRIDE, video.CAUSAL = num_refs, stride, causal
        model = model or load_model(own)
        result, milliseconds, frames = measure(own, model, dataset, args.videos)
        values: dict[str, object] = {metric: result.metrics()[metric] for metric in METRICS}
        viewing = result.viewing.values if result.viewing else {}
        values["stability_error"] = viewing.get("stability_error", float("nan"))
        values |= {"ms_per_frame": milliseconds, "frames": frames}
        file.add({**key, **values, **origin()})
    rows = [row for row in file.rows() if row["dataset"] == name]
    print(table(rows))
    if args.plot:
        plot(rows, args.plot)


if __name__ == "__main__":
    main()
