"""Every row of the paper in testing: by the stream and by the evaluation, in every precision."""

import json

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from test_paper_rows import ROWS
from test_paper_rows_run import SMALL
from torch import nn
from toy_models import CONFIGS
from video_runs import make_frames, write_frames

from iff_detectron2.cli.main import main
from iff_detectron2.data import VideoIndex
from iff_detectron2.data.catalog import register_video_dataset
from iff_detectron2.engine import (
    VideoPredictor,
    VideoTrainer,
    launch_from_command_line,
    load_config,
)

pytestmark = pytest.mark.slow

LENGTH = 5
SETTINGS = [*SMALL, "TEST.VIDEO.NUM_REFS", "4", "TEST.VIDEO.PROTOCOL", "fgfa"]


def config_file(name):
    return str(CONFIGS / "ImageNetVID" / f"{name}.yaml")


def moving_model(name):
    """Return a row's model that moves what it aligns, with norms that do something."""
    torch.manual_seed(0)
    model = VideoTrainer.build_model(
        load_config(config_file(name), [*SETTINGS, "MODEL.WEIGHTS", ""])
    )
    for layer_name, parameter in model.named_parameters():
        if any(f".flow_estimator.{layer}." in layer_name for layer in ("flow", "flow2")):
            nn.init.normal_(parameter, std=0.1)
        elif "conv2_offset" in layer_name:
            nn.init.normal_(parameter, std=0.0005)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    model.proposal_generator.rpn_head.objectness_logits.weight.data.mul_(100)
    model.roi_heads.box_predictor.cls_score.weight.data.mul_(30)
    return model.eval()


@pytest.fixture
def clip(tmp_path, clean_catalogs):
    """Return a folder of frames, registered as the dataset `row_clip`."""
    files = [str(path) for path in write_frames(tmp_path / "clip", make_frames(LENGTH))]
    dicts = [
        {
            **{"file_name": file, "image_id": t, "height": 48, "width": 72, "annotations": []},
            **{"video_id": "clip", "frame_index": t, "video_length": LENGTH},
        }
        for t, file in enumerate(files)
    ]
    classes = [f"class_{k}" for k in range(30)]
    register_video_dataset("row_clip", lambda: (dicts, VideoIndex({"clip": files})), classes)
    return tmp_path / "clip"


def detections(path):
    """Frame, class, score and box of what a file holds, by score within frame and class."""

    def place(d):
        return d["frame_index"], d["category_id"], -d["score"]

    found = sorted(json.loads(path.read_text()), key=place)
    return (
        [(d["frame_index"], d["category_id"]) for d in found],
        np.array([d["score"] for d in found]),
        np.array([d["bbox"] for d in found]),
    )


@pytest.mark.parametrize("name", ROWS)
def test_predict_agrees_with_the_evaluation(name, clip, tmp_path):
    torch.save({"model": moving_model(name).state_dict()}, tmp_path / "weights.pth")
    opts = [
        *(*SETTINGS, "MODEL.WEIGHTS", str(tmp_path / "weights.pth")),
        *("DATASETS.TEST", "('row_clip',)", "OUTPUT_DIR", str(tmp_path / "evaluated")),
    ]
    argv = ["--config-file", config_file(name), *opts]
    launch_from_command_line(argv=["--eval-only", *argv])
    arguments = ["--input", str(clip), "--output", str(tmp_path / "predicted"), "--no-video"]
    assert main(["predict", *arguments, *argv]) == 0
    evaluated = detections(tmp_path / "evaluated/inference/row_clip/predictions.json")
    predicted = detections(tmp_path / "predicted/predictions.json")
    assert len(evaluated[0]) >= 5 * LENGTH
    assert len(set(evaluated[1])) > LENGTH
    assert np.ptp(evaluated[1]) > 0.01
    assert predicted[0] == evaluated[0]
    np.testing.assert_allclose(predicted[1], evaluated[1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(predicted[2], evaluated[2], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ROWS)
def test_every_precision_runs_on_the_cpu(name):
    model = moving_model(name)
    frames = make_frames(4)
    features = {}
    for amp in ("", "bfloat16", "float16"):
        seen = []
        hook = model.backbone.register_forward_hook(
            lambda module, args, out, seen=seen: seen.append(out["reduction"])
        )
        predictor = VideoPredictor(
            load_config(config_file(name), [*SETTINGS, "TEST.VIDEO.AMP", amp]), model
        )
        results = list(predictor(frames))
        hook.remove()
        assert [index for index, _, _ in results] == list(range(4))
        for _, _, instances in results:
            assert len(instances) > 0
            assert instances.scores.isfinite().all()
            assert instances.pred_boxes.tensor.isfinite().all()
        assert {x.dtype for x in seen} == {getattr(torch, amp or "float32")}
        features[amp] = torch.cat([x.float() for x in seen])
    size = features[""].norm()
    assert size > 0
    # Rounding, some layers deep; a layer that read something else would be off by the whole.
    assert (features["float16"] - features[""]).norm() < 0.01 * size
    assert (features["bfloat16"] - features[""]).norm() < 0.08 * size
