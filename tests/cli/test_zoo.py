"""From a detector of Detectron2's model zoo to boxes and tracks of a video, without training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from video_runs import make_frames, write_frames
from zoo_server import SMALL, ZOO

from iff_detectron2_cli.main import main


def test_predict_with_a_name_of_the_zoo(zoo_server, tmp_path, monkeypatch, capsys):
    write_frames(tmp_path / "clip", make_frames(4))
    monkeypatch.chdir(tmp_path)
    words = ["predict", "--config-file", ZOO, "--input", "clip", "--output", "out", "--no-video"]
    assert main([*words, *SMALL, "--tracks"]) == 0, capsys.readouterr().err
    assert len(zoo_server.asked) == 1
    assert zoo_server.asked[0].endswith("faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl")
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
    assert len(zoo_server.asked) == 1
