"""Images of a step that pass the model in parts change nothing but the memory that it takes."""

import copy

import pytest
import torch
from detectron2 import layers
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.modeling.proposal_generator import proposal_utils
from torch import nn
from toy_models import build, make_video, tiny_cfg, training_sample

from iff_detectron2.engine import VideoTrainer
from iff_detectron2.engine.accumulation import (
    AccumulatingAMPTrainer,
    AccumulatingTrainer,
    parts_of_a_step,
)

FROZEN_NORM = ("MODEL.RESNETS.NORM", "FrozenBN", "SOLVER.BASE_LR", 0.01)


@pytest.fixture(autouse=True)
def nms_of_float64(monkeypatch):
    """Detectron2 hands boxes to torchvision in float32, but scores in their own type."""

    def batched_nms(boxes, scores, levels, threshold):
        return layers.batched_nms(boxes, scores.float(), levels, threshold)

    monkeypatch.setattr(proposal_utils, "batched_nms", batched_nms)


@pytest.fixture(scope="module")
def model():
    model = build(tiny_cfg(*FROZEN_NORM)).double().train()
    for name, parameter in model.named_parameters():
        if ".flow_estimator.flow." in name:  # starts at zero: nothing before it would learn
            nn.init.normal_(parameter, std=0.05)
    return model


@pytest.fixture(scope="module")
def batches():
    """Two steps of four images each: two videos, a still, and an image without an object."""
    video, other = make_video(5, seed=1), make_video(4, seed=2)
    box, two = [(10, 10, 60, 50)], [(5, 20, 40, 60), (30, 8, 90, 60)]
    samples = [
        training_sample(video, 2, (-2, 1), box, [0]),
        training_sample(other, 1, (-1, 2), two, [3, 1]),
        training_sample(other, 3, (0, 0), box, [2]),
        training_sample(video, 0, (1, 3), [], []),
    ]
    return [samples, samples[::-1]]


class Counter(HookBase):
    def __init__(self):
        self.backward = self.steps = 0

    def after_backward(self):
        self.backward += 1

    def after_step(self):
        self.steps += 1


def train(model, batches, parts, *opts, cls=AccumulatingTrainer, **kwargs):
    """Weights, logged losses and number of calls of a copy of `model` after these steps."""
    model = copy.deepcopy(model)
    optimizer = VideoTrainer.build_optimizer(tiny_cfg(*FROZEN_NORM, *opts), model)
    if parts is not None:
        kwargs["parts"] = parts
    trainer = cls(model, batches, optimizer, **kwargs)
    counter = Counter()
    trainer.register_hooks([counter])
    torch.manual_seed(0)  # RPN and heads draw what they train on
    trainer.train(0, len(batches))
    history = trainer.storage.histories()
    logged = {k: [v for v, _ in h.values()] for k, h in history.items() if "loss" in k}
    return model.state_dict(), logged, counter


@pytest.mark.parametrize("clip", [False, True])
def test_four_single_images_are_one_step_of_four(model, batches, clip):
    opts = ("SOLVER.CLIP_GRADIENTS.ENABLED", clip, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.01)
    expected, logged, _ = train(model, batches, None, *opts, cls=SimpleTrainer)
    moved = [n for n, p in model.state_dict().items() if not torch.equal(p, expected[n])]
    trainable = [n for n, p in model.named_parameters() if p.requires_grad]
    assert sorted(moved) == sorted(trainable)
    for parts in (4, 2, 1):
        got, got_logged, counter = train(model, batches, parts, *opts)
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=0, atol=1e-6, msg=name)
        assert (counter.backward, counter.steps) == (2, 2)
        assert got_logged.keys() == logged.keys()
        for name, values in logged.items():
            assert got_logged[name] == pytest.approx(values, rel=1e-6), name


def test_the_comparison_sees_a_wrong_share(model, batches):
    """Without the share of each part in the mean the weights would be off by far more."""

    class Summing(AccumulatingTrainer):
        def _backward(self, loss):
            super()._backward(loss * self.parts)

    right, _, _ = train(model, batches, 4)
    wrong, _, _ = train(model, batches, 4, cls=Summing)
    assert max((right[n] - wrong[n]).abs().max().item() for n in right) > 1e-4


class Line(nn.Module):
    """Loss of an image: the squared error of a line through the origin."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        x, y = torch.tensor(batch).T
        return {"loss": ((self.slope * x - y) ** 2).mean()}


def test_mixed_precision_unscales_the_sum_and_skips_what_overflows():
    line = Line()
    optimizer = torch.optim.SGD(line.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    batch = [(1.0, 1.0), (2.0, 1.0), (0.0, 4.0), (1.0, -1.0)]
    trainer = AccumulatingAMPTrainer(
        line, [batch], optimizer, parts=2, grad_scaler=scaler, precision=torch.bfloat16
    )
    trainer.train(0, 1)
    # Slope of the mean: (2 (2-1) + 4 (4-1) + 0 + 2 (2+1)) / 4 = 5.
    assert line.slope.item() == pytest.approx(2 - 0.1 * 5, rel=1e-3)
    assert scaler.get_scale() == 1024
    trainer = AccumulatingAMPTrainer(
        line,
        [[(1.0, 1.0), (1e30, 0.0)]],
        optimizer,
        parts=2,
        grad_scaler=scaler,
        precision=torch.bfloat16,
    )
    before = line.slope.item()
    trainer._write_metrics = lambda *args: None  # the loss itself is infinite here
    trainer.train(0, 1)
    assert line.slope.item() == before
    assert scaler.get_scale() == 512


@pytest.mark.parametrize(
    ("images", "processes", "steps", "parts"),
    [(4, 4, 0, 1), (4, 1, 0, 4), (4, 2, 0, 2), (4, 1, 1, 1), (4, 1, 2, 2), (8, 2, 4, 4)],
)
def test_parts_by_the_number_of_processes(images, processes, steps, parts):
    assert parts_of_a_step(images, processes, steps) == parts


@pytest.mark.parametrize(
    ("images", "processes", "steps", "key"),
    [(4, 8, 1, "IMS_PER_BATCH"), (4, 3, 0, "IMS_PER_BATCH"), (4, 2, 4, "ACCUMULATE_STEPS")],
)
def test_what_cannot_be_divided_names_its_key(images, processes, steps, key):
    with pytest.raises(ValueError, match=rf"SOLVER\.{key}"):
        parts_of_a_step(images, processes, steps)


def test_a_short_batch_is_refused():
    trainer = AccumulatingTrainer(
        Line(), [[(1.0, 1.0)] * 3], torch.optim.SGD(Line().parameters(), lr=0.1), parts=2
    )
    with pytest.raises(ValueError, match="a batch of 3 cannot be split into 2 parts"):
        trainer.train(0, 1)


def test_an_unknown_precision_names_its_key_before_anything_is_read():
    opts = ("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "half")
    with pytest.raises(ValueError, match=r"SOLVER\.AMP\.DTYPE .*'half'"):
        VideoTrainer(tiny_cfg(*opts))


def test_processes_exchange_gradients_once_a_step(tmp_path):
    exchanged = []

    def hook(state, bucket):
        exchanged.append(bucket.buffer().clone())
        future = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        line = nn.parallel.DistributedDataParallel(Line())
        line.register_comm_hook(None, hook)
        optimizer = torch.optim.SGD(line.parameters(), lr=0.1)
        batch = [(1.0, 1.0), (2.0, 1.0), (0.0, 4.0), (1.0, -1.0)]
        AccumulatingTrainer(line, [batch], optimizer, parts=4).train(0, 1)
    finally:
        torch.distributed.destroy_process_group()
    assert [x.item() for x in exchanged] == [5.0]
    assert line.module.slope.item() == pytest.approx(2 - 0.1 * 5)
