"""The benchmark of training: one tiny training, and what it reads of one by hand."""

from __future__ import annotations

import pytest
import training
from toy_models import TINY


def test_what_is_read_of_a_training(tmp_path) -> None:
    metrics, log = tmp_path / "metrics.json", tmp_path / "log.txt"
    metrics.write_text('{"iteration": 0}\n{"time": 2.0, "data_time": 1.0}\n{"bbox/AP": 1}\n')
    assert training.last_times(metrics) == (2, 1)
    metrics.write_text('{"iteration": 0}\n')
    with pytest.raises(ValueError, match=r"has no times: .*--steps"):
        training.last_times(metrics)
    log.write_text("iter: 19  total_loss: 2  lr: 0.1\n")
    assert training.gpu_memory(log) is None
    log.write_text("iter: 19  max_mem: 812M\niter: 39  max_mem: 1034M\n")
    assert training.gpu_memory(log) == 1034


@pytest.mark.slow
def test_a_row_is_trained_once_and_measured(tmp_path, capsys) -> None:
    command = ["--output", str(tmp_path), "--small", "--size", "64x96", "--rows", "IFF-C"]
    tiny = [*map(str, TINY), "INPUT.MIN_SIZE_TRAIN", "(64,)", "DATALOADER.NUM_WORKERS", "0"]
    command += ["--steps", "4", "--images", "2", *tiny]
    training.main(command)
    first = capsys.readouterr().out.strip().splitlines()[-1]
    row, processes, images, speed, milliseconds, waiting, peak = map(
        str.strip, first.split("|")[1:-1]
    )
    assert (row, processes, images) == ("IFF-C", "1", "2")
    assert float(speed) == pytest.approx(2e3 / float(milliseconds), rel=0.05)
    assert 0 <= int(waiting.rstrip("%")) <= 100
    assert int(peak.removesuffix(" (process)")) > 100
    training.main(command)
    assert capsys.readouterr().out.strip().splitlines()[-1] == first
