"""An AdamW of its own for the flow layers, beside whatever trains the detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn
from torch.optim import Optimizer

from .optimizer import flow_parameter_ids


class JointOptimizer(Optimizer):
    """Several optimizers, each with parameters of its own, that look like one to a trainer."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        """
        Args:
            optimizers: no parameter may be in two of them.
        """
        self.optimizers = list(optimizers)
        # The very dicts of the parts: a rate that a scheduler sets here is set there.
        super().__init__([group for part in self.optimizers for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step each in turn; `closure`, as everywhere, computes the loss anew and returns it."""
        loss = closure() if closure is not None else None
        for part in self.optimizers:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each."""
        return {"optimizers": [part.state_dict() for part in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of each.

        Raises:
            ValueError: the state is of another kind of optimizer.
        """
        states = state_dict.get("optimizers")
        if states is None or len(states) != len(self.optimizers):
            raise ValueError(
                "the checkpoint's optimizer is not of the same parts: MODEL.IFF.FLOW.ADAMW_LR was "
                "changed; resume with the old value, or start anew with the checkpoint as "
                "MODEL.WEIGHTS"
            )
        for part, state in zip(self.optimizers, states, strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.optimizers for group in part.param_groups]


def with_flow_adamw(cfg: CfgNode, optimizer: Optimizer, model: nn.Module) -> Optimizer:
    """Take the flow estimators out of an optimizer and give them to an AdamW, where one is wanted.

    The gradient of a loss on the alignment is small where nothing moves and large where something
    does, and a rate of SGD that suits the detector stops the ReLUs of the flow layers for good.

    Args:
        cfg: config of the training; MODEL.IFF.FLOW.ADAMW_LR is the rate, 0 for none.
        optimizer: holds all parameters of the model; changed in place.
        model: the detector.

    Raises:
        ValueError: the rate is negative, or LR_FACTOR asks for another one.
    """
    flow = cfg.MODEL.IFF.FLOW
    if flow.ADAMW_LR < 0:
        raise ValueError(f"MODEL.IFF.FLOW.ADAMW_LR must not be negative, got {flow.ADAMW_LR}")
    if flow.ADAMW_LR and flow.LR_FACTOR != 1.0:
        raise ValueError(
            f"MODEL.IFF.FLOW.ADAMW_LR is {flow.ADAMW_LR} and LR_FACTOR {flow.LR_FACTOR}: both set "
            "the rate of the flow layers; leave LR_FACTOR at 1.0"
        )
    chosen = flow_parameter_ids(model)
    if not (flow.ADAMW_LR and chosen):
        return optimizer
    taken = []
    for group in optimizer.param_groups:
        taken += [p for p in group["params"] if id(p) in chosen]
        group["params"] = [p for p in group["params"] if id(p) not in chosen]
    if not taken:  # MODEL.IFF.FLOW.FREEZE
        return optimizer
    return JointOptimizer(
        [
            optimizer,
            torch.optim.AdamW(taken, lr=flow.ADAMW_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY),
        ]
    )
