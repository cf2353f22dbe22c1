"""The pipeline's benchmark on tiny nets: its parts by hand, and that each row is measured."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pipeline
import pytest
import torch
from toy_models import TINY
from video_runs import SIZES

from iff_detectron2.video.sources import open_source


def test_a_part_does_not_count_what_it_has_others_do() -> None:
    parts = pipeline.Parts(torch.device("cpu"))
    inner = SimpleNamespace(work=lambda: time.sleep(0.05))
    end = parts.watch(inner, "work", "inner")
    with parts.on("outer"):
        time.sleep(0.02)
        inner.work()
        inner.work()
    end()
    inner.work()
    assert 0.1 <= parts.seconds["inner"] < 0.15
    assert 0.02 <= parts.seconds["outer"] < 0.05


def test_the_video_moves(tmp_path) -> None:
    pipeline.write_video(tmp_path / "video.mp4", (64, 96), 3)
    first, _, last = open_source(str(tmp_path / "video.mp4")).read()
    assert first.shape == (64, 96, 3)
    moved, still = (abs(first[:, shift:].astype(int) - last[:, : 96 - shift]) for shift in (6, 0))
    assert moved.mean() < 0.5 * still.mean()


@pytest.mark.slow
def test_several_streams_have_a_column(capsys) -> None:
    small = [*map(str, TINY), *map(str, SIZES), "TEST.VIDEO.NUM_REFS", "2"]
    fixed = ["--small", "--sizes", "48x72", "--frames", "2", "--rounds", "1", "--rows", "R-FCN"]
    pipeline.main([*fixed, "--streams", "3", *small])
    *_, header, _, row = capsys.readouterr().out.strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in (header, row)]
    assert cells[0][3:6] == ["processor ms", "frames/s, 3 streams", "processor ms"]
    assert all(float(cell) > 0 for cell in cells[1][3:6])


@pytest.mark.slow
def test_every_row_is_measured(capsys) -> None:
    small = [*map(str, TINY), *map(str, SIZES), "TEST.VIDEO.NUM_REFS", "2"]
    pipeline.main(["--small", "--sizes", "48x72", "--frames", "2", "--rounds", "1", *small])
    *_, header, _, plain, iff_a, iff_c, optflow = capsys.readouterr().out.strip().splitlines()
    names = [name.strip() for name in header.strip("| ").split("|")]
    assert names[4:] == [f"{part}, ms" for part in pipeline.PARTS]
    for row, name in ((plain, "R-FCN"), (iff_a, "IFF-A"), (iff_c, "IFF-C"), (optflow, "OptFlow-B")):
        cells = [cell.strip() for cell in row.strip("| ").split("|")]
        assert cells[0] == name
        assert float(cells[1]) > 0
        flow, fusion = float(cells[7]), float(cells[8])
        assert (flow > 0) == (fusion > 0) == (name != "R-FCN")
        assert float(cells[6]) > 0  # the backbone
        assert float(cells[9]) > 0  # the heads
