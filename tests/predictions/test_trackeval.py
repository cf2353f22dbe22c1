"""MOT files of a part of a sequence, scored by TrackEval against the whole ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from iff_detectron2.data import register_mot_challenge
from iff_detectron2.predictions.tracks import write_tracks
from iff_detectron2.structures import Detections

trackeval = pytest.importorskip("trackeval", reason="TrackEval is not installed (extra `dev`)")

pytestmark = pytest.mark.usefixtures("clean_catalogs")

LENGTH, FIRST, LAST = 28, 11, 26


def hota(root: Path, results: str) -> float:
    """HOTA in percent, by TrackEval's own classes."""
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(root / "gt"),
            "TRACKERS_FOLDER": str(root / "trackers"),
            "TRACKERS_TO_EVAL": [results],
            "SEQ_INFO": {"SEQ": LENGTH},
            "SKIP_SPLIT_FOL": True,
            "DO_PREPROC": False,
            "PRINT_CONFIG": False,
        }
    )
    evaluator = trackeval.Evaluator(
        {
            **trackeval.Evaluator.get_default_eval_config(),
            "PRINT_CONFIG": False,
            "PRINT_RESULTS": False,
            "OUTPUT_SUMMARY": False,
            "OUTPUT_DETAILED": False,
            "PLOT_CURVES": False,
            "TIME_PROGRESS": False,
            "BREAK_ON_ERROR": True,
        }
    )
    metrics = [trackeval.metrics.HOTA({"PRINT_CONFIG": False, "METRICS": ["HOTA"]})]
    found, _ = evaluator.evaluate([dataset], metrics)
    scores = found["MotChallenge2DBox"][results]["COMBINED_SEQ"]["pedestrian"]["HOTA"]["HOTA"]
    return 100 * float(np.mean(scores))


def test_a_part_is_scored_under_the_source_s_numbers(mot_sequence, tmp_path: Path) -> None:
    lines = [
        f"{frame},{track},{4 + frame + 20 * track},{6 + frame / 4},12,16,1,1,1"
        for frame in range(1, LENGTH + 1)
        for track in (1, 2)
    ]
    folder = mot_sequence(length=LENGTH, lines=lines)
    ini = folder / "seqinfo.ini"
    ini.write_text(ini.read_text().replace("=64", "=128"))
    register_mot_challenge("part", folder, frames=(FIRST, LAST))
    frames = DatasetCatalog.get("part")
    rows = [(row, a) for row, d in enumerate(frames) for a in d["annotations"]]
    shift = np.random.default_rng(0).uniform(-2, 2, (len(rows), 1))
    detections = Detections(
        frames=np.array([row for row, _ in rows]),
        boxes=np.array([a["bbox"] for _, a in rows]) + shift,
        scores=np.ones(len(rows)),
        classes=np.zeros(len(rows), dtype=int),
        track_ids=np.array([a["track_id"] for _, a in rows]),
    )
    written = {}
    (tmp_path / "gt/SEQ/gt").mkdir(parents=True)
    (tmp_path / "gt/SEQ/gt/gt.txt").write_text("\n".join(lines))
    for results in ("ours", "by_hand", "from_1"):
        written[results] = tmp_path / f"trackers/{results}/data/SEQ.txt"
        written[results].parent.mkdir(parents=True)
    write_tracks(written["ours"], detections, frames)
    for results, add in (("by_hand", FIRST), ("from_1", 1)):
        text = ""
        for (row, a), move in zip(rows, shift[:, 0], strict=True):
            x, y = a["bbox"][0] + move, a["bbox"][1] + move
            numbers = f"{x:.2f},{y:.2f},12.00,16.00"
            text += f"{frames[row]['frame_index'] + add},{a['track_id']},{numbers},1,-1,-1,-1\n"
        written[results].write_text(text)
    assert hota(tmp_path, "ours") == hota(tmp_path, "by_hand")
    assert hota(tmp_path, "ours") > 1.5 * hota(tmp_path, "from_1")
