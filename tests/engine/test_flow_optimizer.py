"""Detectron2's optimizer with a part of its own for the flow."""

import copy

import pytest
import torch
from detectron2.solver import build_lr_scheduler
from toy_models import build, tiny_cfg

from iff_detectron2.engine import VideoTrainer
from iff_detectron2.engine.flow_optimizer import JointOptimizer

KEYS = ("MODEL.IFF.FLOW.ADAMW_LR", 0.003, "SOLVER.BASE_LR", 0.5)


def test_the_flow_alone_has_adamw():
    model = build(tiny_cfg())
    optimizer = VideoTrainer.build_optimizer(tiny_cfg(*KEYS), model)
    sgd, adamw = optimizer.optimizers
    assert isinstance(sgd, torch.optim.SGD)
    assert isinstance(adamw, torch.optim.AdamW)
    names = {id(p): name for name, p in model.named_parameters()}
    for part, is_flow in ((sgd, False), (adamw, True)):
        held = [names[id(p)] for group in part.param_groups for p in group["params"]]
        assert held
        assert all((".flow_estimator." in name) == is_flow for name in held)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == sum(p.requires_grad for p in model.parameters())


def test_the_schedule_reaches_both_also_after_resuming():
    cfg = tiny_cfg(*KEYS, "SOLVER.WARMUP_ITERS", 4, "SOLVER.WARMUP_FACTOR", 0.5)
    optimizer = VideoTrainer.build_optimizer(cfg, build(tiny_cfg()))
    optimizer.load_state_dict(optimizer.state_dict())
    scheduler = build_lr_scheduler(cfg, optimizer)
    optimizer.step()
    scheduler.step()
    rates = [{g["lr"] for g in part.param_groups} for part in optimizer.optimizers]
    assert [len(r) for r in rates] == [1, 1]
    (sgd,), (adamw,) = rates
    assert sgd < 0.5
    assert adamw / sgd == pytest.approx(0.003 / 0.5)


def test_a_resumed_training_goes_on_as_one_that_never_stopped():
    def train(optimizer, parameters, steps):
        for step in range(steps):
            for p in parameters:
                p.grad = torch.full_like(p, 0.1 + step)
            optimizer.step()

    def make():
        a, b = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
        parts = [torch.optim.SGD([a], lr=0.1, momentum=0.9), torch.optim.AdamW([b], lr=0.01)]
        return JointOptimizer(parts), [a, b]

    whole, straight = make()
    train(whole, straight, 2)
    again, resumed = make()
    with torch.no_grad():
        for p, q in zip(resumed, straight, strict=True):
            p.copy_(q)
    again.load_state_dict(copy.deepcopy(whole.state_dict()))
    for optimizer, parameters in ((whole, straight), (again, resumed)):
        train(optimizer, parameters, 3)
    for p, q in zip(resumed, straight, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)


def test_the_state_of_another_kind_is_refused():
    optimizer = VideoTrainer.build_optimizer(tiny_cfg(*KEYS), build(tiny_cfg()))
    plain = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ValueError, match="ADAMW_LR was changed"):
        optimizer.load_state_dict(plain.state_dict())


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match="ADAMW_LR must not be negative"):
        VideoTrainer.build_optimizer(tiny_cfg("MODEL.IFF.FLOW.ADAMW_LR", -1.0), build(tiny_cfg()))


def test_two_rates_for_the_flow_are_refused():
    cfg = tiny_cfg(*KEYS, "MODEL.IFF.FLOW.LR_FACTOR", 0.5)
    with pytest.raises(ValueError, match=r"LR_FACTOR 0\.5: both set"):
        VideoTrainer.build_optimizer(cfg, build(tiny_cfg()))


def test_a_frozen_flow_needs_no_optimizer():
    cfg = tiny_cfg(*KEYS, "MODEL.IFF.FLOW.FREEZE", True)
    optimizer = VideoTrainer.build_optimizer(cfg, build(cfg))
    assert isinstance(optimizer, torch.optim.SGD)
