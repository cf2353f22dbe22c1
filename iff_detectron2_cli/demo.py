"""The verb `demo`: a small IFF-Net from nothing to pictures of what it detects."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HELP = "generate MovingShapes, train a small IFF-Net, evaluate it and draw what it does"
EXAMPLE = "iff-detectron2 demo --output output/demo"

CONFIG = "MovingShapes/iff_net_C"
SHOWN_OFFSETS = (-5, -3, -1, 1, 3, 5)
SCORE_THRESHOLD = 0.5
WEIGHTS = "model_final.pth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "--config-file", default=CONFIG, help="what to train (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/demo"),
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides of the config")


def run(args: argparse.Namespace) -> int:
    """Run the whole demo; what is done already is kept, so an interrupted demo goes on."""
    from iff_detectron2.data.datasets import datasets_root
    from iff_detectron2.data.moving_shapes import generate_moving_shapes
    from iff_detectron2.engine import load_config

    load_config(args.config_file, args.opts)  # what is wrong with it is told first
    start = time.monotonic()
    output: Path = args.output
    root = datasets_root() / "moving_shapes"
    print(f"[1/3] MovingShapes in {root}", flush=True)
    generate_moving_shapes(root)
    print(f"[2/3] Training and evaluation in {output / 'training'}", flush=True)
    cfg, model, dataset = _train(args.config_file, output / "training", args.opts)
    print("[3/3] Pictures", flush=True)
    inference = output / "training" / "inference" / dataset
    pictures = draw_results(cfg, model, dataset, inference, output)
    shutil.copy(root / "contact_sheet.png", output / "data.png")
    print((output / "metrics.txt").read_text(encoding="utf-8"))
    print(f"Done in {time.monotonic() - start:.0f} s. Look at")
    for title, path in {"the data": output / "data.png", **pictures}.items():
        print(f"  {title:<28} {path}")
    return 0


def _train(config_file: str, output_dir: Path, opts: Sequence[str]) -> tuple[Any, Any, str]:
    """Train (or resume) and evaluate; returns config, model in evaluation mode, test set."""
    from iff_detectron2.engine import VideoTrainer, load_config, setup

    opts = [*opts, "OUTPUT_DIR", str(output_dir)]
    earlier = output_dir / "config.yaml"
    if earlier.is_file() and earlier.read_text() != load_config(config_file, opts).dump():
        raise ValueError(
            f"{output_dir} holds a run of another config; delete it or name another --output"
        )
    cfg = setup(argparse.Namespace(config_file=config_file, opts=opts))
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume=True)
    if not hasattr(trainer.model, "temporal"):
        raise ValueError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} has no alignment to show; "
            "choose a config of a video detector"
        )
    dataset = cfg.DATASETS.TEST[0]
    if trainer.start_iter < cfg.SOLVER.MAX_ITER:
        trainer.train()
    # The last file that an evaluation writes.
    results = output_dir / "inference" / dataset / "operating_point.json"
    final = output_dir / WEIGHTS
    if not results.is_file() or results.stat().st_mtime < final.stat().st_mtime:
        VideoTrainer.test(cfg, trainer.model)
    return cfg, trainer.model.eval(), dataset


def draw_results(
    cfg: Any, model: Any, dataset: str, inference: Path, output: Path
) -> dict[str, Path]:
    """Draw the annotated video, the alignment panel, the curves, and copy the metrics.

    Args:
        cfg: config of the model.
        model: a video detector in evaluation mode.
        dataset: test set that was evaluated.
        inference: folder where `VIDEvaluator` left its files.
        output: folder for the pictures.

    Returns:
        Titles and paths of what was written.
    """
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from iff_detectron2.data.catalog import category_ids_of
    from iff_detectron2.evaluation.operating_point import (
        OPERATING_POINT_FILE,
        load_operating_point,
    )
    from iff_detectron2.predictions import read_predictions
    from iff_detectron2.visualization.plots import plot_metric_bars, plot_training_curves

    output.mkdir(parents=True, exist_ok=True)
    dicts = DatasetCatalog.get(dataset)
    names = MetadataCatalog.get(dataset).thing_classes
    paths = {
        "metrics (text)": output / "metrics.txt",
        "metrics (JSON)": output / "metrics.json",
        "mAP50 by motion": output / "metrics.png",
        "training curve": output / "training_curve.png",
        "annotated video": output / "video.webm",
        "feature flow and alignment": output / "alignment.png",
    }
    shutil.copy(inference / "results.txt", paths["metrics (text)"])
    shutil.copy(inference / "results.json", paths["metrics (JSON)"])
    results = json.loads(paths["metrics (JSON)"].read_text(encoding="utf-8"))
    run_name = Path(cfg.OUTPUT_DIR).name
    plot_metric_bars({run_name: results["bbox"]}, paths["mAP50 by motion"])
    plot_training_curves(Path(cfg.OUTPUT_DIR) / "metrics.json", paths["training curve"])
    found = read_predictions(inference / "predictions.json", dicts, category_ids_of(dataset))
    point = load_operating_point(inference / OPERATING_POINT_FILE)
    threshold = SCORE_THRESHOLD if point is None else point.score
    write_annotated_video(
        dicts, found, names, paths["annotated video"], threshold=threshold, num_videos=4
    )
    panel = paths["feature flow and alignment"]
    write_alignment_panel(cfg, model, dataset, dicts, names, panel, threshold)
    return paths


def _videos(dicts: Sequence[dict]) -> dict[str, list[dict]]:
    videos: dict[str, list[dict]] = {}
    for record in dicts:
        videos.setdefault(record["video_id"], []).append(record)
    return videos


def write_annotated_video(
    dicts: Sequence[dict],
    detections: Any,
    names: Sequence[str],
    path: Path,
    *,
    threshold: float,
    num_videos: int,
) -> None:
    """Write detections (solid) and ground truth (dashed) of the first videos as one film.

    Args:
        dicts: dataset dicts of the evaluated set.
        detections: `Detections` of these, sorted by frame.
        names: class names.
        path: video file to write.
        threshold: detections with a lower score are not drawn.
        num_videos: videos to show, one after the other.
    """
    import numpy as np

    from iff_detectron2.data import read_frame
    from iff_detectron2.video.writer import VideoWriter
    from iff_detectron2.visualization.drawing import draw_detections

    starts = detections.row_starts(len(dicts))
    videos: dict[str, list[int]] = {}
    for row, record in enumerate(dicts):
        videos.setdefault(record["video_id"], []).append(row)
    shown = [row for rows in list(videos.values())[:num_videos] for row in rows]
    with VideoWriter(path, fps=12) as writer:
        for row in shown:
            record, found = dicts[row], detections[starts[row] : starts[row + 1]]
            writer.write(
                draw_detections(
                    read_frame(record["file_name"], "BGR"),
                    found,
                    names,
                    score_threshold=threshold,
                    gt_boxes=np.array([a["bbox"] for a in record["annotations"]]).reshape(-1, 4),
                    scale=3,
                    caption=f"{record['video_id']}  {record['frame_index']}",
                )
            )


def _fastest_frame(dicts: Sequence[dict]) -> dict:
    """Return the frame around which one object, seen in all shown neighbours, moves furthest."""
    import numpy as np

    first, last = min(SHOWN_OFFSETS), max(SHOWN_OFFSETS)

    def distance(frames: Sequence[dict], t: int) -> float:
        centres = [
            {a["track_id"]: np.add(a["bbox"][:2], a["bbox"][2:]) / 2 for a in record["annotations"]}
            for record in frames[t + first : t + last + 1]
        ]
        throughout = set.intersection(*(set(frame) for frame in centres))
        moves = [np.linalg.norm(centres[-1][track] - centres[0][track]) for track in throughout]
        return float(max(moves, default=0.0))

    candidates = [
        (distance(frames, t), record)
        for frames in _videos(dicts).values()
        for t, record in enumerate(frames)
        if -first <= t < len(frames) - last
    ]
    if not candidates:
        raise ValueError(f"no video has the {last - first + 1} frames of an alignment panel")
    return max(candidates, key=lambda candidate: candidate[0])[1]


def write_alignment_panel(
    cfg: Any,
    model: Any,
    dataset: str,
    dicts: Sequence[dict],
    names: Sequence[str],
    path: Path,
    threshold: float,
) -> None:
    """Draw the alignment of some neighbours with a frame in which much moves (cf. Fig. 6).

    Args:
        cfg: config of the model.
        model: video detector in evaluation mode.
        dataset: test set.
        dicts: its dataset dicts.
        names: class names.
        path: picture to write.
        threshold: detections with a lower score are not drawn.
    """
    import cv2

    from iff_detectron2.data import VIDDatasetMapper
    from iff_detectron2.engine.window_alignment import alignment_rows
    from iff_detectron2.visualization.panel import alignment_panel

    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.VIDEO.STREAMING = False
    mapper = VIDDatasetMapper(cfg, is_train=False, dataset_names=(dataset,))
    record = _fastest_frame(dicts)
    name = f"{Path(record['video_id']).name}  {record['frame_index']}"
    rows = alignment_rows(model, mapper(record), SHOWN_OFFSETS, name=name)
    picture = alignment_panel(rows, names, score_threshold=threshold)
    if not cv2.imwrite(str(path), picture):
        raise OSError(f"cannot write {path}")
