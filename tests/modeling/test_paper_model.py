"""The paper's model at the paper's size, and a small one that has to learn something."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.utils.events import EventStorage
from toy_models import CONFIGS, build, make_video, training_sample, window_sample

from iff_detectron2.engine import load_config

pytestmark = pytest.mark.slow


def test_training_step_of_iff_net_c_at_600x1000():
    torch.manual_seed(0)
    cfg = load_config(
        str(CONFIGS / "ImageNetVID/iff_net_C_R_101.yaml"),
        ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""],
    )
    model = build_model(cfg).train()
    # Frozen normalisation lets random weights grow from block to block; trained ones do not.
    model.backbone.stem.conv1.norm.weight.fill_(0.3)
    for block in (m for m in model.backbone.modules() if isinstance(m, BottleneckBlock)):
        block.conv3.norm.weight.fill_(0.05)
    assert not [n for n, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    frames = make_video(3, 600, 1000)
    sample = training_sample(frames, 1, (-1, 1), [(100, 80, 420, 360)], [7])
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.SGD(parameters.values(), lr=1e-3)
    for step in range(2):
        optimiser.zero_grad()
        with EventStorage(step):
            losses = model([sample])
        assert set(losses) == {
            *("loss_trl", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")
        }
        assert all(torch.isfinite(loss) for loss in losses.values()), losses
        sum(losses.values()).backward()
        without = [n for n, p in parameters.items() if p.grad is None]
        assert not without
        optimiser.step()
    # The flow starts at zero, so what lies before its last layer gets no gradient at step 1.
    zero = [n for n, p in parameters.items() if not p.grad.any()]
    assert not zero


def test_the_small_net_overfits_one_clip():
    torch.manual_seed(0)
    small = str(CONFIGS / "MovingShapes/iff_net_C.yaml")
    model = build(load_config(small, ["TEST.VIDEO.NUM_REFS", 4])).train()
    clip = [frame // 4 for frame in make_video(3, 96, 128)]
    boxes = []
    for t, frame in enumerate(clip):
        x = 20 + 12 * t
        frame[0, 30:62, x : x + 40] = 255
        frame[2, 70:90:4, 80:110] = 255
        boxes.append([(x, 30, x + 40, 62), (80, 70, 110, 90)])
    samples = [
        training_sample(clip, t, offsets, boxes[t], [1, 4])
        for t, offsets in enumerate([(1, 2), (-1, 1), (-1, -2)])
    ]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.08, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [150])
    for step in range(200):
        optimiser.zero_grad()
        with EventStorage(step):
            sum(model(samples).values()).backward()
        for parameter in model.parameters():
            torch.nn.utils.clip_grad_norm_(parameter, 1.0)
        optimiser.step()
        schedule.step()
    model.eval()
    window = model.temporal.window
    for t in range(3):
        with torch.no_grad():
            sample = window_sample(clip, t, window.offsets, streaming_from=max(t - 1, 0))
            found = model([sample])[0]["instances"][:2]
        order = found.pred_classes.argsort()
        assert found.pred_classes[order].tolist() == [1, 4]
        assert (found.scores > 0.5).all()
        overlap = [
            iou(a, b)
            for a, b in zip(found.pred_boxes.tensor[order].tolist(), boxes[t], strict=True)
        ]
        assert min(overlap) > 0.6


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)
