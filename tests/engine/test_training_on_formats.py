"""Two iterations and an evaluation on every format, as `train_net.py` runs them."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from format_writers import WRITERS, generate_split

from iff_detectron2.data import register_from_specs
from iff_detectron2.engine import VideoTrainer, setup

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "quick_schedules" / "iff_net_C_instant.yaml"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("clean_catalogs")]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return generate_split(tmp_path_factory.mktemp("generated"))


@pytest.mark.parametrize("format_name", WRITERS)
def test_two_iterations_and_an_evaluation(split, tmp_path: Path, format_name: str) -> None:
    (tmp_path / "data").mkdir()
    spec = f"mine={WRITERS[format_name](split, tmp_path / 'data')}"
    register_from_specs([spec])
    DatasetCatalog.get("mine")  # some formats name their classes in the files
    classes = MetadataCatalog.get("mine").thing_classes
    output = tmp_path / "output"
    opts = [
        *("DATASETS.REGISTER", str([spec])),
        *("DATASETS.TRAIN", "['mine']", "DATASETS.TEST", "['mine']"),
        *("DATALOADER.NUM_WORKERS", "2" if format_name == "video_files" else "0"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", str(len(classes))),
        *("MODEL.DEVICE", "cpu", "TEST.VIDEO.NUM_REFS", "2", "OUTPUT_DIR", str(output)),
    ]
    cfg = setup(argparse.Namespace(config_file=str(CONFIG), opts=opts))
    VideoTrainer(cfg).train()
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    losses = [value for row in rows for key, value in row.items() if key.startswith("loss_")]
    assert losses
    assert all(map(math.isfinite, losses))
    saved = json.loads((output / "inference/mine/results.json").read_text())
    metrics = saved["bbox"]
    assert 0 <= metrics["mAP50"] <= 100
    assert saved["num_frames"] == len(DatasetCatalog.get("mine"))
    motion = [metrics[f"mAP50-{name}"] for name in ("slow", "medium", "fast")]
    assert any(value is not None for value in motion) == (format_name != "coco_frames")
