"""What a run writes and reads again, damaged at random: it is read, or refused with its name."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import NUM_INPUTS, check_damage

from iff_detectron2.data.datasets.imagenet.annotation_table import (
    load_table,
    make_table,
    save_table,
)
from iff_detectron2.data.datasets.imagenet.xml_file import XMLAnnotation, XMLObject
from iff_detectron2.inference.frame_output import FrameOutput
from iff_detectron2.inference.journal import Journal
from iff_detectron2.predictions.readers import read_predictions
from iff_detectron2.structures import Detections
from iff_detectron2.visualization.plots import metric_series, read_metrics

FRAMES = [
    {"image_id": t, "video_id": "v", "frame_index": t, "width": 64, "height": 48} for t in range(4)
]


def found(t: int) -> Detections:
    return Detections(np.full(2, t), [[1, 2, 30, 40.5], [3, 4, 9, 9]], [0.5, 0.25], [0, 1])


def write_journal(path: Path) -> None:
    with Journal(path, {"config": "c"}) as journal:
        for t in range(4):
            journal.append(t, FrameOutput(found(t), []), "torn" if t == 2 else None)
        journal.finish()


def read_journal(path: Path) -> None:
    with Journal(path, {"config": "c"}) as journal:
        found = journal.detections()
    assert np.isfinite(found.boxes).all()
    assert np.isfinite(found.scores).all()


def write_json(path: Path) -> None:
    rows = [
        {
            **{"image_id": t, "video_id": "v", "frame_index": t, "category_id": 1, "score": 0.5},
            "bbox": [1.0, 2.0, 3.0, 4.0],
        }
        for t in range(4)
    ]
    path.write_text(json.dumps(rows))


def write_text(path: Path) -> None:
    path.write_text("".join(f"{t} 1 0.5000 1.00 2.00 3.00 4.00\n" for t in range(4)))


def read_saved(path: Path) -> None:
    assert read_predictions(path, FRAMES, [1, 2]).find_bad() is None


def write_metrics(path: Path) -> None:
    rows = [{"iteration": 20 * i, "total_loss": 0.5, "lr": 0.1} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_curve(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        records = read_metrics(path)
    try:
        metric_series(records, "total_loss")
    except ValueError as error:
        # It gets records, and names the metric.
        assert "total_loss" in str(error)  # noqa: PT017


def write_cache(path: Path) -> None:
    boxes = ((1.0, 2.0, 3.0, 4.0), (0.5, 0.0, 9.0, 9.0))
    objects = (XMLObject("n1", boxes[0], 0), XMLObject("n2", boxes[1], None))
    save_table(path, make_table([XMLAnnotation(64, 48, objects)] * 3), {"key": np.arange(3)})


def read_cache(path: Path) -> None:
    load_table(path, ("key",))


FILES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "journal.jsonl": (write_journal, read_journal),
    "predictions.json": (write_json, read_saved),
    "predictions.txt": (write_text, read_saved),
    "metrics.json": (write_metrics, read_curve),
    "cache.npz": (write_cache, read_cache),
}


@NUM_INPUTS
@pytest.mark.parametrize("name", FILES)
def test_damage_is_seen_or_does_no_harm(tmp_path, name, num_inputs):
    write, read = FILES[name]
    path = tmp_path / name
    write(path)
    assert check_damage(path, lambda: read(path), num_inputs) > num_inputs / 20
