"""The verb `export`."""

from __future__ import annotations

import json

import pytest
from video_runs import command, make_frames

from iff_detectron2.deploy import VideoRunner
from iff_detectron2_cli.main import main


@pytest.mark.slow
def test_export_writes_what_a_runner_runs(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["export", *command(tmp_path, "--output", out, "--size", "72x48", "--no-onnx")]
    assert main(words) == 0
    assert f'VideoRunner("{out}")' in capsys.readouterr().out
    names = ["frame.pt2", "heads.ts", "key.pt2", "manifest.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["input"]["frame_size"] == [48, 72]
    assert sorted(manifest["files"]) == names[:-1]
    runner = VideoRunner(out)
    assert [i for frame in make_frames(3) for i, _ in runner.push(frame)] == [0]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
