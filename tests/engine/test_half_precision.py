"""Training in half precision on a CPU learns what float32 learns, also from odd samples."""

import copy

import pytest
import torch
from detectron2.engine import SimpleTrainer
from torch import nn
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample

from iff_detectron2.engine import VideoTrainer
from iff_detectron2.engine.accumulation import AccumulatingAMPTrainer, training_precision

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
