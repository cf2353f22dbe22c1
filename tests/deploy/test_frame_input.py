"""Resizing without Detectron2 against Detectron2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_models import tiny_cfg

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.deploy.frame_input import frame_input, resized_shape
from iff_detectron2.deploy.manifest import InputSpec

SIDES = st.integers(1, 4000)


@given(SIDES, SIDES, st.integers(1, 1200), st.integers(1, 2000))
def test_shapes_are_those_of_detectron2(height, width, least, most):
    from detectron2.data.transforms import ResizeShortestEdge

    expected = ResizeShortestEdge.get_output_shape(height, width, least, most)
    assert resized_shape(height, width, least, most) == expected


def test_shapes_by_hand():
    assert resized_shape(480, 640, 600, 1000) == (600, 800)
    assert resized_shape(1000, 400, 600, 1000) == (1000, 400)  # bounded by the longer side
    assert resized_shape(720, 1280, 0, 1000) == (720, 1280)


@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
@pytest.mark.parametrize("least", [0, 24])
def test_pixels_are_those_of_detectron2(image_format, least):
    frame = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    cfg = tiny_cfg(
        "INPUT.FORMAT", image_format, "INPUT.MIN_SIZE_TEST", least, "INPUT.MAX_SIZE_TEST", 30
    )
    spec = InputSpec(image_format, least, 30, None, (0.0,) * 3, (1.0,) * 3, 0)
    assert torch.equal(frame_input(frame, spec)[0], NetworkInput(cfg)(frame))
