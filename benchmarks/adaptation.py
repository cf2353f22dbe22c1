"""What adaptation without labels brings on labelled video that it did not see.

    python benchmarks/adaptation.py [--seeds 0 1 2] [--parts moving_shapes fpn pets ablation]
        [--methods plain average adapted adapted_other supervised]
    python benchmarks/adaptation.py --tables

Trains a detector on clean frames, adapts it on deteriorated video without labels, and evaluates it
with and without Seq-NMS+ on video with and without deteriorations, beside a video detector that was
trained with the labels of deteriorated video. `adapted_other` adapts on raw videos that are not
those of the training set: another seed, larger frames, more objects. Part `fpn` is a Faster R-CNN
with a feature pyramid in place of the R-FCN. Interrupted, the same command goes on. Each result is
a row of results/adaptation.csv; `--tables` makes the tables of docs/adapt.md from that file alone.
The part `pets` wants PETS09-S2L1 under datasets/ (docs/datasets.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiment import (
    CHECKOUT,
    ResultsFile,
    Row,
    finished,
    markdown_table,
    mean_and_deviation,
    read_metrics,
    replace_table,
    run_step,
)

from iff_detectron2.utils.folder_lock import own_folder

RESULTS = CHECKOUT / "results" / "adaptation.csv"
PAGE = CHECKOUT / "docs" / "adapt.md"
METRICS = ("mAP50", "slow", "medium", "fast", "stability_error", "average_delay")
PARTS = ("moving_shapes", "fpn", "pets", "ablation")
RAW, SEQ_NMS = "none", "seq_nms_plus"
# The average of the frames is the least that a training of the temporal part must beat.
METHODS = ("plain", "average", "adapted", "adapted_other", "supervised")
PLAIN, AVERAGE, ADAPTED, OTHER, SUPERVISED = METHODS
# Generated sets and the options that make them; `other` has nothing of the one that is tested on.
SETS = {
    "spoilt": (),
    "clean": ("--severity", "0"),
    "other": ("--seed", "7", "--size", "288x192", "--objects", "4", "--frames", "40"),
}
# The test of an adapted detector takes the window of the supervised one.
WINDOW = ("TEST.VIDEO.NUM_REFS", "10")
# The example's pyramid, trained for long enough to detect, on whole frames.
FPN = [
    *("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "INPUT.VIDEO.NUM_REFS", "0"),
    *("TEST.VIDEO.NUM_REFS", "0", "SOLVER.MAX_ITER", "1600"),
    *("INPUT.MIN_SIZE_TRAIN", "(160,)", "INPUT.MAX_SIZE_TRAIN", "224"),
    *("INPUT.MAX_SIZE_TEST", "224"),
]
# Each loss left out once.
ABLATION = {
    "without restoration": ["MODEL.IFF.ADAPT.LOSSES", "['HarmlessnessLoss']"],
    "without harmlessness": ["MODEL.IFF.ADAPT.LOSSES", "['RestorationLoss']"],
    "without TRL": ["MODEL.IFF.TRL.ENABLED", "False"],
}


def results_file(path: Path) -> ResultsFile:
    """Open the CSV of this experiment."""
    keys = ("part", "method", "set", "postprocess", "seed")
    return ResultsFile(path, keys, (*METRICS, "seconds", "memory_mib"))


class Experiment:
    """One training set, its test sets, and the runs on them.

    Args:
        part: name of the experiment.
        folder: where the runs are.
        file: where the results go.
        tests: specs of the test sets, by name.
    """

    def __init__(self, part: str, folder: Path, file: ResultsFile, tests: dict[str, str]) -> None:
        self.part, self.folder, self.file, self.tests = part, folder, file, tests

    def train(self, name: str, config: str, train: str, seed: int, *opts: str) -> Path:
        """Train a detector with labels, and return its folder."""
        folder = self.folder / f"seed{seed}" / name
        sets = ["DATASETS.REGISTER", repr([f"adaptation_{self.part}_train={train}"])]
        sets += ["DATASETS.TRAIN", f"('adaptation_{self.part}_train',)", "DATASETS.TEST", "()"]
        own = ["OUTPUT_DIR", str(folder), "SEED", str(seed), *sets, *opts]
        run_step(["train_net.py", "--resume", "--config-file", config, *own], folder, "train")
        return folder

    def adapt(
        self, name: str, plain: Path, config: str, videos: Path, seed: int, *opts: str
    ) -> Path:
        """Adapt a detector without labels, and return the folder of the adapted one."""
        folder = self.folder / f"seed{seed}" / name
        command = ["-m", "iff_detectron2_cli", "adapt", "--config-file", config]
        command += ["--weights", str(plain / "model_final.pth"), "--input", str(videos)]
        command += ["--output", str(folder), "SEED", str(seed), *opts]
        run_step(command, folder, "adapt")
        return folder

    def evaluate(
        self,
        method: str,
        folder: Path,
        config: str,
        seed: int,
        sets: Sequence[str],
        *opts: str,
        trained: Path | None = None,
    ) -> None:
        """Evaluate a detector on test sets, with and without Seq-NMS+, into the CSV.

        Args:
            method: name of the row.
            folder: where the results go.
            config: that of the detector.
            seed: that of the row.
            sets: names of test sets.
            opts: overrides of the config.
            trained: folder of the training that made the weights; `folder` if left out.
        """
        trained = trained or folder
        names = {name: f"adaptation_{self.part}_{name}" for name in sets}
        specs = [f"{names[name]}={self.tests[name]}" for name in sets]
        command = ["train_net.py", "--eval-only", "--config-file", config]
        command += ["MODEL.WEIGHTS", str(trained / "model_final.pth"), "OUTPUT_DIR", str(folder)]
        command += ["DATASETS.REGISTER", repr(specs), "DATASETS.TRAIN", "()"]
        command += ["DATASETS.TEST", repr(tuple(names.values())), *opts]
        run_step(command, folder, "evaluate")
        training = finished(trained, "adapt") or finished(trained, "train")
        assert training is not None
        for name, spec in zip(sets, specs, strict=True):
            found = folder / "inference" / names[name]
            again = found / SEQ_NMS
            post = ["-m", "iff_detectron2_cli", "postprocess", str(found / "predictions.json")]
            post += [str(again / "predictions.json"), "--variant", SEQ_NMS]
            again.mkdir(exist_ok=True)
            run_step(post, folder, f"postprocess_{name}")
            score = ["-m", "iff_detectron2_cli", "evaluate", str(again / "predictions.json")]
            score += ["--dataset", spec, "--output", str(again)]
            run_step(score, folder, f"score_{name}")
            for postprocess, results in ((RAW, found), (SEQ_NMS, again)):
                key = {"part": self.part, "method": method, "set": name, "seed": seed}
                key["postprocess"] = postprocess
                if not self.file.has(**key):
                    metrics = read_metrics(results / "results.json")
                    self.file.add({**key, **metrics, **training._asdict()})


def moving_shapes(
    output: Path, file: ResultsFile, seeds: Sequence[int], methods: Sequence[str]
) -> None:
    """Run the experiment on MovingShapes; a method may be one of the ablation."""
    experiment = _on_shapes("moving_shapes", output, file)
    config, sets = "configs/MovingShapes/rfcn.yaml", list(experiment.tests)
    for seed in seeds:
        plain = experiment.train(PLAIN, config, _labels(output, "clean"), seed)
        if PLAIN in methods:
            experiment.evaluate(PLAIN, plain, config, seed, sets)
        if AVERAGE in methods:
            folder = experiment.folder / f"seed{seed}" / AVERAGE
            rule = "configs/MovingShapes/average.yaml"
            experiment.evaluate(AVERAGE, folder, rule, seed, sets, *WINDOW, trained=plain)
        for name in (ADAPTED, OTHER, *ABLATION):
            if name in methods:
                opts = [*WINDOW, *ABLATION.get(name, [])]
                videos = _raw_videos(output, "other" if name == OTHER else "spoilt")
                where = name.replace(" ", "_")
                folder = experiment.adapt(where, plain, config, videos, seed, *opts)
                experiment.evaluate(name, folder, str(folder / "adapted.yaml"), seed, sets)
        if SUPERVISED in methods:
            config_c = "configs/MovingShapes/iff_net_C.yaml"
            folder = experiment.train(SUPERVISED, config_c, _labels(output, "spoilt"), seed)
            experiment.evaluate(SUPERVISED, folder, config_c, seed, sets)


def fpn(output: Path, file: ResultsFile, seeds: Sequence[int], methods: Sequence[str]) -> None:
    """Run the experiment on MovingShapes with a Faster R-CNN with a feature pyramid."""
    experiment = _on_shapes("fpn", output, file)
    config, sets = "projects/FasterRCNN/iff_faster_rcnn_FPN.yaml", list(experiment.tests)
    for seed in seeds:
        plain = experiment.train(PLAIN, config, _labels(output, "clean"), seed, *FPN)
        if PLAIN in methods:
            experiment.evaluate(PLAIN, plain, config, seed, sets, *FPN)
        if ADAPTED in methods:
            videos = _raw_videos(output, "spoilt")
            # The config of the plain run, which `adapt` makes temporal.
            own = str(plain / "config.yaml")
            folder = experiment.adapt(ADAPTED, plain, own, videos, seed, *WINDOW)
            experiment.evaluate(ADAPTED, folder, str(folder / "adapted.yaml"), seed, sets)


def _on_shapes(part: str, output: Path, file: ResultsFile) -> Experiment:
    """Make an experiment that is tested on MovingShapes with and without deteriorations."""
    specs = {
        test: f"moving_shapes:{_shapes(output, name)}@VID_val_videos"
        for test, name in {"val": "spoilt", "clean_val": "clean"}.items()
    }
    return Experiment(part, output / part, file, specs)


def _shapes(output: Path, name: str) -> Path:
    """Make a set of MovingShapes unless it is there, and return its folder."""
    folder = output / "data" / name / "moving_shapes"
    command = ["-m", "iff_detectron2_cli", "synth", str(folder), *SETS[name]]
    run_step(command, output / "data", name)
    return folder


def _labels(output: Path, name: str) -> str:
    return f"moving_shapes:{_shapes(output, name)}@VID_train_15frames"


def _raw_videos(output: Path, name: str) -> Path:
    return _shapes(output, name) / "Data" / "VID" / "train"


def pets(output: Path, file: ResultsFile, seeds: Sequence[int], methods: Sequence[str]) -> None:
    """Run the experiment on PETS09-S2L1: trained and adapted on frames 1 to 400, tested on 401 to
    500."""
    root = CHECKOUT / "datasets" / "pets09_s2l1"
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist; docs/datasets.md says where it comes from")
    tests = {"val": f"mot_challenge:{root}@401-500"}
    experiment = Experiment("pets", output / "pets", file, tests)
    config = "configs/MOTChallenge/rfcn.yaml"
    videos = output / "pets" / "frames_1_to_400"
    videos.mkdir(parents=True, exist_ok=True)
    for frame in sorted((root / "img1").iterdir())[:400]:
        if not (videos / frame.name).exists():
            (videos / frame.name).symlink_to(frame)
    # At 7 frames a second people go farther than the flow reaches in 10 frames.
    window = ["TEST.VIDEO.NUM_REFS", "4", "INPUT.VIDEO.MAX_OFFSET", "5"]
    for seed in seeds:
        plain = experiment.train(PLAIN, config, f"mot_challenge:{root}@1-400", seed)
        if PLAIN in methods:
            experiment.evaluate(PLAIN, plain, config, seed, ["val"])
        if ADAPTED in methods:
            folder = experiment.adapt(ADAPTED, plain, config, videos, seed, *window)
            experiment.evaluate(ADAPTED, folder, str(folder / "adapted.yaml"), seed, ["val"])


def tables(rows: Sequence[Row]) -> dict[str, str]:
    """Make the tables of the docs, by name."""
    made = {}
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        lines = []
        for method in dict.fromkeys((*METHODS, *(r["method"] for r in own))):
            for test in sorted({row["set"] for row in own}, reverse=True):
                for postprocess in (RAW, SEQ_NMS):
                    wanted = (method, test, postprocess)
                    chosen = [r for r in own if (r["method"], r["set"], r["postprocess"]) == wanted]
                    if chosen:
                        lines.append(_line(chosen, own))
        headers = ["method", "set", "seeds", "mAP50", "over plain", "slow", "medium", "fast"]
        made[part] = markdown_table([*headers, "stability error", "average delay"], lines)
    return made


def _line(chosen: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    first = chosen[0]
    name = first["method"] + (" + Seq-NMS+" if first["postprocess"] == SEQ_NMS else "")
    plain = {
        r["seed"]: float(r["mAP50"])
        for r in rows
        if (r["method"], r["postprocess"], r["set"]) == (PLAIN, RAW, first["set"])
    }
    gains = [float(r["mAP50"]) - plain[r["seed"]] for r in chosen if r["seed"] in plain]
    over = "" if name == PLAIN else mean_and_deviation(gains)
    mean = [mean_and_deviation(r[metric] for r in chosen) for metric in METRICS[:4]]
    steady = [mean_and_deviation((r[metric] for r in chosen), 3) for metric in METRICS[4:]]
    return [name, first["set"], str(len(chosen)), mean[0], over, *mean[1:], *steady]


def main() -> None:
    """Run what is missing, or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--output", type=Path, default=Path("output/benchmarks/adaptation"))
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--tables", action="store_true", help="only write the tables of the docs")
    args = parser.parse_args()
    file, output = results_file(args.csv), args.output.resolve()
    if not args.tables:
        own_folder(output)  # another process would train the same detectors
        if "moving_shapes" in args.parts:
            moving_shapes(output, file, args.seeds, args.methods)
        if "fpn" in args.parts:
            fpn(output, file, args.seeds, args.methods)
        if "pets" in args.parts:
            pets(output, file, args.seeds, args.methods)
        if "ablation" in args.parts:
            moving_shapes(output, file, args.seeds, list(ABLATION))
    made = tables(file.rows())
    for part, table in made.items():
        if args.tables:
            replace_table(PAGE, part, table)
        print(f"{part}\n{table}\n")


if __name__ == "__main__":
    main()
