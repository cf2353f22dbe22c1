"""FGFA's file of motion IoUs."""

from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.evaluation import read_fgfa_motion_iou


def write_mat(path, cells):
    savemat = pytest.importorskip("scipy.io", reason="scipy is not installed").savemat
    content = np.empty((len(cells), 1), dtype=object)
    for row, values in enumerate(cells):
        # As in FGFA's file: n x 1 values, 1 x 0 for a frame without boxes.
        content[row, 0] = (
            np.array(values, dtype=float).reshape(-1, 1) if values else np.empty((1, 0))
        )
    savemat(path, {"motion_iou": content})


def test_read_mat(tmp_path):
    path = tmp_path / "motion.mat"
    write_mat(path, [[0.5, 0.75], [], [1.0]])
    np.testing.assert_array_equal(read_fgfa_motion_iou(path, [2, 0, 1]), [0.5, 0.75, 1.0])
    with pytest.raises(ValueError, match="frame row 1 has 0 motion values, the dataset has 1"):
        read_fgfa_motion_iou(path, [2, 1, 1])
    with pytest.raises(ValueError, match="has 3 frames, the dataset has 2"):
        read_fgfa_motion_iou(path, [2, 0])
    with pytest.raises(FileNotFoundError, match=r"missing\.mat"):
        read_fgfa_motion_iou(tmp_path / "missing.mat", [1])


def test_published_mat_has_the_published_shares(shared_dir):
    """FGFA's own file: 273505 boxes in 176126 frames, 37.9 / 35.9 / 26.2 % slow, medium, fast."""
    path = shared_dir / "data" / "imagenet_vid_groundtruth_motion_iou.mat"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    loadmat = pytest.importorskip("scipy.io", reason="scipy is not installed").loadmat
    cells = loadmat(path)["motion_iou"][:, 0]
    counts = [cell.size for cell in cells]
    assert len(counts) == 176126
    assert counts.count(0) == 4046
    values = read_fgfa_motion_iou(path, counts)
    assert len(values) == 273505
    shares = [
        100 * np.mean((values >= low) & (values <= high))
        for low, high in ((0.9, 1.0), (0.7, 0.9), (0.0, 0.7))
    ]
    np.testing.assert_allclose(shares, [37.9, 35.9, 26.2], atol=0.05)
