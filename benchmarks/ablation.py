"""What each part of IFF-Net gives: the rows of the paper and those beyond it, trained alike.

    python benchmarks/ablation.py [--seeds 0 1 2] [--rows rfcn similarity ...] [--commit SHA]
        [--plot FILE] [KEY VALUE ...]
    python benchmarks/ablation.py --tables

Trains every row on MovingShapes with every seed, one run after the other in OUTPUT/ROW_sSEED.
results/ablation.csv gets a row per run: mAP50 by motion, the flow's error and the cost.
results/ablation_differences.csv gets paired differences and their bootstrap over videos.
Interrupted, the same command goes on. A finished run of train_net.py that lies (or is linked) in
OUTPUT/ROW_sSEED is taken as it is; `--commit` says what it was trained with. `--tables` makes the
tables of docs/results.md from the two files alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiment import (
    CHECKOUT,
    ORIGIN,
    ResultsFile,
    Row,
    Step,
    finished,
    markdown_table,
    mean_and_deviation,
    read_metrics,
    replace_table,
    run_step,
    write_down,
)

from iff_detectron2.utils.folder_lock import own_folder
from iff_detectron2.visualization.plots import read_metrics as read_curve

RESULTS = CHECKOUT / "results" / "ablation.csv"
PAGE = CHECKOUT / "docs" / "results.md"
DATASET = "moving_shapes_val"
METRICS = ("mAP50", "slow", "medium", "fast", "stability_error", "average_delay")
ALIGNMENT = {"epe": "iff/epe_held_out", "epe_zero": "iff/epe_zero_held_out"}
# Rows that others are compared with: each frame alone, and fusion without alignment.
AGAINST = ("rfcn", "similarity")
COMPARED = ("mAP50", "mAP50-fast")


@dataclass(frozen=True)
class Setting:
    """A row of the ablation.

    Attributes:
        title: in the table.
        config: below configs/MovingShapes.
        weights_of: row whose weights are tested with this config; empty to train its own.
    """

    title: str
    config: str
    weights_of: str = ""


ROWS = {
    "rfcn": Setting("R-FCN, each frame alone", "rfcn"),
    "average": Setting("average, no alignment", "average"),
    "similarity": Setting("FGFA's weights, no alignment", "similarity"),
    "deformable": Setting("deformable sampling", "deformable"),
    "optflow_B": Setting("OptFlow-B, from random weights", "optflow_B"),
    "iff_net_A": Setting("IFF-Net-A", "iff_net_A"),
    "iff_net_B": Setting("IFF-Net-B", "iff_net_B"),
    "iff_net_C": Setting("IFF-Net-C", "iff_net_C"),
    "iff_net_D": Setting("IFF-Net-D", "iff_net_D", weights_of="iff_net_C"),
    "iff_net_E": Setting("IFF-Net-E", "iff_net_E", weights_of="iff_net_C"),
    "offset_weights": Setting("C, weights know the offset", "iff_net_C_offset_weights"),
    "two_hypotheses": Setting("C, moved or still", "iff_net_C_two_hypotheses"),
    "context_trl": Setting("C, context TRL", "iff_net_C_context_trl"),
    "tracks": Setting("C, flow led by tracks", "iff_net_C_tracks"),
}


def results_file(path: Path) -> ResultsFile:
    """Open the CSV of the runs."""
    return ResultsFile(path, ("row", "seed"), (*METRICS, *ALIGNMENT, "seconds", "memory_mib"))


def differences_file(path: Path) -> ResultsFile:
    """Open the CSV of paired differences, which stands beside that of the runs."""
    keys = ("row", "against", "seed", "metric")
    name = f"{path.stem}_differences.csv"
    return ResultsFile(path.with_name(name), keys, ("difference", "low", "high", "samples"))


def run(row: str, seed: int, output: Path, opts: Sequence[str], commit: str) -> Path:
    """Train and test a row with a seed, unless it was done, and return the folder of the run."""
    setting, folder = ROWS[row], output / f"{row}_s{seed}"
    config = f"configs/MovingShapes/{setting.config}.yaml"
    command = ["train_net.py", "--config-file", config, "OUTPUT_DIR", str(folder)]
    command += ["SEED", str(seed), *opts]
    if setting.weights_of:
        weights = run(setting.weights_of, seed, output, opts, commit) / "model_final.pth"
        command[1:1] = ["--eval-only"]
        run_step([*command, "MODEL.WEIGHTS", str(weights)], folder, "train")
    elif not (finished(folder, "train") or _take_over(folder, commit)):
        command[1:1] = ["--resume"]
        run_step(command, folder, "train")
    return folder


def _take_over(folder: Path, commit: str) -> bool:
    """Whether a run that was made by other means is finished; writes down what is known of it."""
    results, metrics = folder / "inference" / DATASET / "results.json", folder / "metrics.json"
    if not (results.is_file() and metrics.is_file() and (folder / "model_final.pth").is_file()):
        return False
    lines = read_curve(metrics)
    times = [line["time"] for line in lines if "time" in line]
    iterations = max(line["iteration"] for line in lines)
    seconds = round(iterations * sum(times) / max(len(times), 1), 1)
    step = Step(seconds, float("nan"), commit, "unknown", "unknown")
    write_down(step, folder, "train")
    return True


def measured(folder: Path) -> dict[str, object]:
    """Return what the CSV holds of a finished run."""
    step = finished(folder, "train")
    assert step is not None
    values: dict[str, object] = {**step._asdict()}
    values |= read_metrics(folder / "inference" / DATASET / "results.json")
    values |= dict.fromkeys(ALIGNMENT, float("nan"))
    metrics = folder / "metrics.json"
    for found in read_curve(metrics) if metrics.is_file() else ():
        values |= {name: found[key] for name, key in ALIGNMENT.items() if key in found}
    return values


def compare(file: ResultsFile, folders: Mapping[tuple[str, int], Path], samples: int) -> None:
    """Add the paired differences of runs of one seed that are not in the file yet."""
    from iff_detectron2.evaluation import EvaluationDataset
    from iff_detectron2.evaluation.bootstrap import bootstrap_metrics, interval
    from iff_detectron2.evaluation.evaluate import load_detections

    dataset = None
    for (row, seed), folder in folders.items():
        for against in AGAINST:
            keys = [
                {"row": row, "against": against, "seed": seed, "metric": metric}
                for metric in COMPARED
            ]
            missing = [key for key in keys if not file.has(**key)]
            twice = row in AGAINST[: AGAINST.index(against) + 1]
            if twice or (against, seed) not in folders or not missing:
                continue
            dataset = dataset or EvaluationDataset.load(DATASET, "fgfa", None)
            pair = [
                load_detections(dataset, path / "inference" / DATASET / "predictions.json")
                for path in (folder, folders[against, seed])
            ]
            videos = [frame["video_id"] for frame in dataset.frames]
            step = finished(folder, "train")
            assert step is not None
            for key in missing:
                name = key["metric"]
                table = bootstrap_metrics(
                    dataset.ground_truth, pair, videos, metric=str(name), samples=samples
                )
                low, high = interval(table[:, 0] - table[:, 1])
                means = [
                    json.loads((path / "inference" / DATASET / "results.json").read_text())
                    for path in (folder, folders[against, seed])
                ]
                difference = means[0]["bbox"][name] - means[1]["bbox"][name]
                origin = {name: getattr(step, name) for name in ORIGIN}
                values = {"difference": difference, "low": low, "high": high}
                file.add({**key, **values, "samples": samples, **origin})


def tables(rows: Sequence[Row], differences: Sequence[Row]) -> dict[str, str]:
    """Make the tables of the docs, by name."""
    lines, compared = [], []
    for name, setting in ROWS.items():
        own = [row for row in rows if row["row"] == name]
        if own:
            means = [mean_and_deviation(r[metric] for r in own) for metric in METRICS[:4]]
            others = (*METRICS[4:], *ALIGNMENT)
            means += [mean_and_deviation((r[metric] for r in own), 2) for metric in others]
            minutes = mean_and_deviation(float(r["seconds"]) / 60 for r in own)
            lines.append([setting.title, str(len(own)), *means, minutes])
        cells = [setting.title]
        for against in AGAINST:
            for metric in COMPARED:
                wanted = (name, against, metric)
                pairs = [d for d in differences if (d["row"], d["against"], d["metric"]) == wanted]
                cells.append(_difference(pairs))
        if any(cell != "-" for cell in cells[1:]):
            compared.append(cells)
    heads = ["row", "seeds", *METRICS[:4], "stability error", "average delay"]
    heads += ["flow's error", "zero flow's", "minutes"]
    over = [f"{metric}, over {ROWS[a].title}" for a in AGAINST for metric in COMPARED]
    return {
        "ablation": markdown_table(heads, lines),
        "ablation differences": markdown_table(["row", *over], compared),
    }


def _difference(pairs: Sequence[Row]) -> str:
    """Mean difference over the seeds, its deviation, and the mean ends of the intervals."""
    if not pairs:
        return "-"
    low, high = (sum(float(p[end]) for p in pairs) / len(pairs) for end in ("low", "high"))
    return f"{mean_and_deviation(p['difference'] for p in pairs)} [{low:+.1f}, {high:+.1f}]"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw mAP50 of every row by motion, each run a dot and the mean a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in ROWS if any(row["row"] == name for row in rows)]
    figure, axes = pyplot.subplots(1, 4, figsize=(13, 0.4 * len(names) + 1.5), sharey=True)
    for axis, metric in zip(axes, METRICS[:4], strict=True):
        for place, name in enumerate(names):
            values = [float(row[metric]) for row in rows if row["row"] == name]
            axis.plot(values, [place] * len(values), "o", color="tab:blue", alpha=0.6)
            axis.plot(sum(values) / len(values), place, "|", color="black", markersize=16)
        axis.set_title(metric)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), [ROWS[name].title for name in names])
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks/ablation"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--commit", default="unknown", help="of runs that lie there already")
    parser.add_argument("--samples", type=int, default=300, help="of the bootstrap")
    parser.add_argument("--plot", type=Path, help="also draw the rows into this file")
    parser.add_argument("--tables", action="store_true", help="only write the tables of the docs")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="changes of every config")
    args = parser.parse_args(argv)
    file, paired = results_file(args.csv), differences_file(args.csv)
    if args.tables:
        for name, table in tables(file.rows(), paired.rows()).items():
            replace_table(PAGE, name, table)
    else:
        own_folder(args.output)  # another process would train the same rows
        folders = {}
        for seed in args.seeds:
            for row in args.rows:
                folders[row, seed] = run(row, seed, args.output.resolve(), args.opts, args.commit)
                if not file.has(row=row, seed=seed):
                    file.add({"row": row, "seed": seed, **measured(folders[row, seed])})
            compare(paired, folders, args.samples)
        for table in tables(file.rows(), paired.rows()).values():
            print(table, end="\n\n")
    if args.plot:
        plot(file.rows(), args.plot)


if __name__ == "__main__":
    main()
