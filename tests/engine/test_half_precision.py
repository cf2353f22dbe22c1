"""Training in half precision on a CPU learns what float32 learns, also from odd samples."""

import copy

import pytest
import torch
from detectron2.engine import HookBase, SimpleTrainer
from torch import nn
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample

from iff_detectron2.engine import VideoTrainer
from iff_detectron2.engine.accumulation import (
    AccumulatingAMPTrainer,
    AccumulatingTrainer,
    loss_scaler,
    training_precision,
)

STEPS = 8


@pytest.fixture(scope="module")
def model():
    model = build(tiny_cfg("MODEL.RESNETS.NORM", "FrozenBN")).train()
    randomise_flow(model, scale=0.05)
    return model


@pytest.fixture(scope="module")
def batches():
    boxes = [[(10.0, 10.0, 60.0, 50.0)], [(5.0, 20.0, 40.0, 60.0), (30.0, 8.0, 90.0, 60.0)]]
    samples = [
        training_sample(
            make_video(4, seed=k), 1, (-1, 2), boxes[k % 2], [k % 2] * len(boxes[k % 2])
        )
        for k in range(4)
    ]
    return [samples[k % 4 : k % 4 + 1] for k in range(STEPS)]


def train(model, batches, precision):
    """Return sums of the losses of each step, and the trainer, of a copy of the model."""
    model = copy.deepcopy(model)
    optimizer = VideoTrainer.build_optimizer(tiny_cfg("SOLVER.BASE_LR", 0.005), model)
    if precision is None:
        trainer = SimpleTrainer(model, batches, optimizer)
    else:
        trainer = AccumulatingAMPTrainer(model, batches, optimizer, parts=1, precision=precision)
    torch.manual_seed(0)
    trainer.train(0, len(batches))
    history = trainer.storage.history("total_loss").values()
    return [value for value, _ in history], trainer


@pytest.mark.slow
def test_losses_are_those_of_float32(model, batches):
    exact, _ = train(model, batches, None)
    half, trainer = train(model, batches, torch.bfloat16)
    # The samples come twice: once more learned from, each is known better.
    assert sum(exact[STEPS // 2 :]) < sum(exact[: STEPS // 2])
    # Regions near a threshold are drawn otherwise, so single steps differ more than their mean.
    assert sum(half) == pytest.approx(sum(exact), rel=0.05)
    assert not trainer.grad_scaler.is_enabled()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


class GradientNorms(HookBase):
    """Notes the norm of the gradient of each step, unscaled, and which steps were left out."""

    def __init__(self):
        self.norms, self.skipped = [], []

    def before_step(self):
        self._scale = self._scaler.get_scale() if self._scaler else 1.0

    @property
    def _scaler(self):
        return getattr(self.trainer, "grad_scaler", None)

    def after_backward(self):
        grads = [p.grad for p in self.trainer.model.parameters() if p.grad is not None]
        self.norms.append(nn.utils.get_total_norm(grads).item() / self._scale)

    def after_step(self):
        if self._scaler and self._scaler.get_scale() < self._scale:
            self.skipped.append(self.trainer.iter)


def walking_boxes(count):
    """Clips of a bright box that walks over a dim ground, a key frame and two references each."""
    samples = []
    for seed in range(count):
        (ground,) = make_video(1, height=48, width=80, seed=seed)
        video = [ground // 4 for _ in range(3)]
        x, y, class_id = 4 + 4 * seed, 2 + 2 * seed, seed % 4
        for t, frame in enumerate(video):
            frame[class_id % 3, y : y + 28, x + 4 * t : x + 4 * t + 32] = 250 - 60 * (class_id > 2)
        box = (x + 4.0, y, x + 36.0, y + 28.0)
        samples.append(training_sample(video, 1, (-1, 1), [box], [class_id]))
    return samples


def train_200_steps(precision):
    """Return losses and norms of gradients of each 20 steps, and the steps that were left out."""
    cfg = tiny_cfg("SOLVER.BASE_LR", 0.02, "MODEL.IFF.TRL.WEIGHT", 1.0)
    model = build(cfg).train()
    samples = walking_boxes(8)
    batches = [[samples[(k * 3) % 8]] for k in range(200)]
    of_step = (model, batches, VideoTrainer.build_optimizer(cfg, model))
    if precision is None:
        trainer = AccumulatingTrainer(*of_step, parts=1)
    else:
        trainer = AccumulatingAMPTrainer(*of_step, parts=1, precision=precision)
    gradients = GradientNorms()
    trainer.register_hooks([gradients])
    torch.manual_seed(0)
    trainer.train(0, len(batches))
    total = [value for value, _ in trainer.storage.history("total_loss").values()]
    by_window = torch.tensor(gradients.norms).view(10, 20)
    norms = torch.stack([by_window.mean(1), by_window.median(1).values])
    return torch.tensor(total).view(10, 20).mean(1), norms, gradients.skipped


@pytest.fixture(scope="module")
def exact():
    losses, norms, _ = train_200_steps(None)
    # It learns, or there would be nothing to compare.
    assert losses[5:].mean() < 0.6 * losses[0]
    return losses, norms


@pytest.mark.endurance
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16], ids=str)
def test_200_steps_are_those_of_float32(exact, precision):
    """M1: with a gradient that explodes, float16 leaves steps out and the norms are far apart.

    Regions near a threshold are drawn otherwise, so that single steps of two trainings differ:
    losses are compared by their mean, norms by the mean and the median of each 20 steps.
    """
    losses, norms, skipped = train_200_steps(precision)
    assert losses.mean() == pytest.approx(exact[0].mean().item(), rel=0.05)
    ratio = norms / exact[1]
    assert ratio.min() > 0.5
    assert ratio.max() < 2
    assert all(step < 10 for step in skipped)


def test_float16_has_room_for_gradients_above_one():
    scale = loss_scaler("cpu", torch.float16).get_scale()
    assert 10 * scale < torch.finfo(torch.float16).max
    # What float16 can tell from zero is then far below any gradient that changes a weight.
    assert torch.finfo(torch.float16).smallest_normal / scale < 1e-7
    assert not loss_scaler("cpu", torch.bfloat16).is_enabled()


ODD = {
    "no object": training_sample(make_video(3), 1, (-1, 1), [], []),
    "one pixel": training_sample(make_video(3), 1, (-1, 1), [(40.0, 30.0, 41.0, 31.0)], [0]),
    "grey": training_sample(
        [torch.full((3, 65, 97), 128, dtype=torch.uint8)] * 3,
        1,
        (-1, 1),
        [(9.0, 9.0, 50.0, 50.0)],
        [0],
    ),
}


def huge(model):
    model.backbone.reduction.weight.data *= 1e6


def dead(model):
    """Features of zero everywhere: the reduction layer's ReLU lets nothing through."""
    nn.init.zeros_(model.backbone.reduction.weight)
    nn.init.constant_(model.backbone.reduction.bias, -1)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("sample", "change"),
    [("no object", None), ("one pixel", None), ("grey", dead), ("one pixel", huge)],
)
def test_odd_samples_give_finite_gradients(model, sample, change, precision):
    model = copy.deepcopy(model)
    if change is not None:
        change(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = AccumulatingAMPTrainer(
        model, [[ODD[sample]]], optimizer, parts=1, precision=precision
    )
    trainer.train(0, 1)
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    assert any(grad.any() for grad in grads.values())


def test_the_type_goes_by_config_and_device():
    on = ("SOLVER.AMP.ENABLED", True, "MODEL.DEVICE", "cpu")
    assert training_precision(tiny_cfg()) is None
    assert training_precision(tiny_cfg(*on)) is torch.bfloat16
    assert training_precision(tiny_cfg(*on, "SOLVER.AMP.DTYPE", "float16")) is torch.float16
    cfg = tiny_cfg("SOLVER.AMP.ENABLED", True).clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cuda"
    assert training_precision(cfg) is torch.float16
