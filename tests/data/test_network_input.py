"""A frame becomes the same input, whoever makes it."""

import numpy as np
import pytest
import torch
from PIL import Image
from toy_models import build, tiny_cfg
from video_runs import SIZES, make_frames

from iff_detectron2.data import VIDDatasetMapper
from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.engine import VideoPredictor
from iff_detectron2.engine.window_alignment import alignment_rows, window_sample

GREY = ("MODEL.PIXEL_MEAN", [110.0], "MODEL.PIXEL_STD", [50.0])
FORMATS = {"BGR": (), "RGB": (), "YUV-BT.601": (), "HSV": (), "L": GREY}


def cfg_of(image_format, config="MovingShapes/rfcn.yaml"):
    return tiny_cfg(*SIZES, "INPUT.FORMAT", image_format, *FORMATS[image_format], config=config)


def expected_colours(bgr, image_format):
    """Return one colour of a frame by the textbook."""
    b, g, r = (float(x) for x in bgr)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    return {
        "BGR": [b, g, r],
        "RGB": [r, g, b],
        "L": [luma],
        "YUV-BT.601": [luma / 255, 0.492 * (b - luma) / 255, 0.877 * (r - luma) / 255],
    }[image_format]


@pytest.mark.parametrize("image_format", ["BGR", "RGB", "L", "YUV-BT.601"])
def test_the_colours_are_those_of_the_format(image_format):
    colour = (10, 200, 90)
    image = NetworkInput(cfg_of(image_format))(np.full((48, 72, 3), colour, np.uint8))
    expected = expected_colours(colour, image_format)
    assert image.shape == (len(expected), 40, 60)
    for channel, value in zip(image, expected, strict=True):
        tolerance = 2e-3 if image_format.startswith("YUV") else 1.0 if image_format == "L" else 0
        assert (channel.float() - value).abs().max() <= tolerance


@pytest.mark.parametrize("image_format", FORMATS)
def test_mapper_predictor_and_alignment_agree(image_format, tmp_path):
    frame = make_frames(1)[0]
    path = tmp_path / "0.png"
    Image.fromarray(frame[:, :, ::-1]).save(path)
    cfg = cfg_of(image_format)
    mapper = VIDDatasetMapper(cfg, is_train=False, dataset_names=())
    sample = mapper({"file_name": str(path), "image_id": 0, "height": 48, "width": 72})
    shown = window_sample(cfg, [frame], 0)["image"]
    assert shown.dtype == sample["image"].dtype
    assert torch.equal(shown, sample["image"])
    model = build(cfg)
    with torch.no_grad():
        (expected,) = model([sample])
    ((_, found),) = VideoPredictor(cfg, model).push(frame)
    assert len(found) > 0
    assert torch.equal(found.scores, expected["instances"].scores)
    assert torch.equal(found.pred_boxes.tensor, expected["instances"].pred_boxes.tensor)


@pytest.mark.parametrize("image_format", FORMATS)
def test_streams_plans_and_panels_take_every_format(image_format):
    cfg = cfg_of(image_format, "MovingShapes/iff_net_C.yaml")
    model = build(cfg)
    frames = make_frames(4)
    predictor = VideoPredictor(cfg, model)
    assert predictor.check_memory(48, 72).frames == 5
    assert len(list(predictor(frames))) == 4
    (row,) = alignment_rows(model, window_sample(cfg, frames, 1), [1])
    assert row.key_frame.shape == (40, 60, 3)
    assert row.key_frame.dtype == np.uint8
    if image_format in ("BGR", "RGB", "YUV-BT.601"):  # others lose colours when they are resized
        mean = row.key_frame.reshape(-1, 3).mean(0)
        np.testing.assert_allclose(mean, frames[1].reshape(-1, 3).mean(0), atol=2)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("INPUT.FORMAT", "BRG"), r"INPUT\.FORMAT must be BGR, RGB, L, .*'BRG'"),
        (("INPUT.FORMAT", "L"), r"INPUT\.FORMAT L has 1 channel.*PIXEL_MEAN has 3 number"),
        (("INPUT.FORMAT", "CMYK"), r"INPUT\.FORMAT CMYK has 4 channel.*PIXEL_MEAN has 3"),
    ],
)
@pytest.mark.parametrize("door", [VIDDatasetMapper, VideoPredictor])
def test_a_format_that_cannot_be_is_refused(door, opts, message):
    with pytest.raises(ValueError, match=message):
        door(tiny_cfg(*opts, config="MovingShapes/rfcn.yaml"))
