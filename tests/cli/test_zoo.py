"""From a detector of Detectron2's model zoo to boxes and tracks of a video, without training."""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from iopath.common import file_io
from video_runs import make_frames, write_frames

from iff_detectron2.engine import load_config
from iff_detectron2_cli.main import main

ZOO = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
SMALL = [
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    *("INPUT.MIN_SIZE_TEST", "48", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.DETECTIONS_PER_IMAGE", "5"),
]


@pytest.fixture
def zoo_server(tmp_path, monkeypatch) -> list[str]:
    """Stand in for the download of the zoo's weights, in the zoo's format; lists the addresses."""
    asked = []

    def download(url, folder, *, filename=None, progress=True):
        asked.append(url)
        torch.manual_seed(0)
        model = build_model(load_config(ZOO, SMALL))
        arrays = {name: value.numpy() for name, value in model.state_dict().items()}
        path = Path(folder) / (filename or url.rpartition("/")[2])
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
        return str(path)

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_io, "download", download)
    return asked


def test_predict_with_a_name_of_the_zoo(zoo_server, tmp_path, monkeypatch, capsys):
    write_frames(tmp_path / "clip", make_frames(4))
    monkeypatch.chdir(tmp_path)
    words = ["predict", "--config-file", ZOO, "--input", "clip", "--output", "out", "--no-video"]
    assert main([*words, *SMALL, "--tracks"]) == 0, capsys.readouterr().err
    assert len(zoo_server) == 1
    assert zoo_server[0].endswith("faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl")
    found = json.loads(Path("out/predictions.json").read_text())
    assert {d["frame_index"] for d in found} == {0, 1, 2, 3}
    assert {d["category_id"] for d in found} <= set(range(1, 91))  # COCO's own ids
    with Path("out/tracks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    tracked = [d for d in found if d.get("track_id") is not None]
    assert len(rows) == len(tracked) > 0
    assert max(sum(r["track_id"] == row["track_id"] for r in rows) for row in rows) > 1

    # A file that is given goes before the download.
    assert main([*words, *SMALL, "--restart", "--weights", "none.pth"]) == 2
    assert "none.pth" in capsys.readouterr().err
    assert len(zoo_server) == 1
