"""The losses of the instant config's first steps, so that no change of training goes unseen.

After a change that is meant to change them, `python tests/test_golden_curve.py` writes them anew.
"""

import argparse
import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2.engine import VideoTrainer, setup

ROOT = Path(__file__).parents[1]
CURVE = Path(__file__).with_name("golden_curve.txt")
LOSSES = ("loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc", "loss_trl")
STEPS = 20


def train(folder: Path) -> np.ndarray:
    """Return the losses of each step, [STEPS, LOSSES]."""
    os.environ["DETECTRON2_DATASETS"] = str(folder)
    sizes = {"num_train_videos": 2, "num_val_videos": 1, "num_frames": 6}
    generate_moving_shapes(folder / "moving_shapes", **sizes, num_workers=1, progress=False)
    opts = [
        *(
            "SOLVER.MAX_ITER",
            str(STEPS),
            "SOLVER.IMS_PER_BATCH",
            "2",
            "DATALOADER.NUM_WORKERS",
            "0",
        ),
        *("DATASETS.TEST", "()", "MODEL.DEVICE", "cpu", "SEED", "7"),
        *("OUTPUT_DIR", str(folder / "output")),
    ]
    config = str(ROOT / "configs" / "quick_schedules" / "iff_net_C_instant.yaml")
    trainer = VideoTrainer(setup(argparse.Namespace(config_file=config, opts=opts)))
    trainer.train()
    curves = [[value for value, _ in trainer.storage.history(name).values()] for name in LOSSES]
    return np.array(curves).T


@pytest.mark.slow
@pytest.mark.skipif(cv2.__version__ >= "5", reason="its warpAffine makes other frames than 4's")
def test_the_losses_are_those_of_the_file(tmp_path, monkeypatch, fresh_builtins):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    threads = torch.get_num_threads()
    try:
        got = train(tmp_path)
    finally:
        torch.set_num_threads(threads)
    expected = np.loadtxt(CURVE)
    assert "moving_shapes_train" in DatasetCatalog
    assert got.shape == expected.shape == (STEPS, len(LOSSES))
    # Rounding differs from machine to machine, and grows with each step.
    np.testing.assert_allclose(got[:5], expected[:5], rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(got.mean(0), expected.mean(0), rtol=0.1, atol=5e-3)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        head = f"{' '.join(LOSSES)}, one step per line"
        np.savetxt(CURVE, train(Path(name)), fmt="%.5f", header=head)
