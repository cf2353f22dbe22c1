"""Clipping of the whole gradient, and the learning rate of the flow, with any optimizer."""

from __future__ import annotations

import pytest
import torch
from detectron2.engine import DefaultTrainer
from toy_models import build, tiny_cfg

from iff_detectron2.engine import VideoTrainer
from iff_detectron2.engine.optimizer import build_optimizer, scale_flow_lr
from iff_detectron2.modeling import FlowEstimator

CLIP = [
    *("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.5, "SOLVER.BASE_LR", 1.0),
    *("SOLVER.MOMENTUM", 0.0, "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.WEIGHT_DECAY_NORM", 0.0),
]


def test_the_norm_of_all_gradients_together_is_clipped():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = build_optimizer(tiny_cfg(*CLIP), model)
    before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    optimizer.step()
    step = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    # Plain SGD at rate 1: the step is the gradient, 26 equal numbers whose norm is now 0.5.
    torch.testing.assert_close(step, torch.full_like(step, -0.5 / 26**0.5), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("times", [1, 2])
def test_the_flow_has_its_rate_once(times):
    cfg = tiny_cfg("MODEL.IFF.FLOW.LR_FACTOR", 0.25, "SOLVER.BASE_LR", 0.8)
    model = build(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.8)
    for _ in range(times):
        scale_flow_lr(optimizer, model, 0.25)
    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    flow = {id(p) for m in model.modules() if isinstance(m, FlowEstimator) for p in m.parameters()}
    assert flow
    assert len(rates) == len(list(model.parameters()))
    assert {rate for p, rate in rates.items() if p in flow} == {0.2}
    assert {rate for p, rate in rates.items() if p not in flow} == {0.8}


def test_a_project_s_optimizer_goes_with_the_flow_s_rate(monkeypatch):
    """The three of them together: LR_FACTOR, full_model, and a `build_optimizer` of one's own."""

    class Project(VideoTrainer):
        @classmethod
        def build_optimizer(cls, cfg, model):
            return torch.optim.AdamW(model.parameters(), lr=cfg.SOLVER.BASE_LR)

        @classmethod
        def build_train_loader(cls, cfg):
            return []

    rates = ("MODEL.IFF.FLOW.LR_FACTOR", 0.5, "MODEL.IFF.FLOW.ADAMW_LR", 0.0)
    cfg = tiny_cfg(*CLIP, *rates, "DATASETS.TEST", "()")
    trainer = Project(DefaultTrainer.auto_scale_workers(cfg, 1))
    groups = trainer._trainer.optimizer.param_groups
    assert {g["lr"] / g["initial_lr"] for g in groups} == {groups[0]["lr"] / 1.0}
    assert {g["initial_lr"] for g in groups if g["params"]} == {1.0, 0.5}
