"""Steps whose images pass the model in parts, so that one GPU does what several do together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .acceleration import mixed_precision
from .bad_step import FiniteLosses


def parts_of_a_step(ims_per_batch: int, world_size: int, accumulate_steps: int) -> int:
    """Return the number of parts in which the images that one process has in a step pass the model.

    Args:
        ims_per_batch: images of a step in all processes, SOLVER.IMS_PER_BATCH.
        world_size: number of processes.
        accumulate_steps: SOLVER.ACCUMULATE_STEPS; 0 for one image at a time.

    Raises:
        ValueError: if the images cannot be divided so.
    """
    images, rest = divmod(ims_per_batch, world_size)
    if rest or not images:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH ({ims_per_batch}) must be a multiple of the number of processes "
            f"({world_size}); SOLVER.REFERENCE_WORLD_SIZE scales it together with the learning rate"
        )
    if accumulate_steps < 0 or (accumulate_steps and images % accumulate_steps):
        raise ValueError(
            f"SOLVER.ACCUMULATE_STEPS must divide the {images} image(s) that each process has in a "
            f"step, or be 0 for one image at a time; got {accumulate_steps}"
        )
    return accumulate_steps or images


class CheckedTrainer(FiniteLosses, SimpleTrainer):
    """Detectron2's `SimpleTrainer` with a look at the losses of each process."""


def training_precision(cfg: CfgNode) -> torch.dtype | None:
    """Return the smaller type of a training, None for float32 throughout.

    Raises:
        ValueError: if SOLVER.AMP.DTYPE names no such type.
    """
    amp = cfg.SOLVER.AMP
    by_default = torch.bfloat16 if cfg.MODEL.DEVICE == "cpu" else torch.float16
    kinds = {"": by_default, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if amp.DTYPE not in kinds:
        raise ValueError(f"SOLVER.AMP.DTYPE must be float16, bfloat16 or '', got {amp.DTYPE!r}")
    return kinds[amp.DTYPE] if amp.ENABLED else None


class AccumulatingTrainer(CheckedTrainer):
    """Detectron2's `SimpleTrainer`, except that the batch of a step passes the model in parts.

    The gradients of the parts add up to that of the mean over all images before the optimizer (and
    its clipping) sees them. A step is one step of the optimizer whatever the number of parts: the
    loader, the schedule, the hooks and the logged losses do not change. Losses must be means over
    images, as those of the R-FCN model are, and no layer may look at the whole batch, as an
    unfrozen BatchNorm does; then the step is the same up to rounding.
    """

    def __init__(self, *args: Any, parts: int, **kwargs: Any) -> None:
        """
        Args:
            args, kwargs: those of `SimpleTrainer`.
            parts: number of parts of equal size.
        """
        super().__init__(*args, **kwargs)
        if parts < 1:
            raise ValueError(f"parts must be at least 1, got {parts}")
        self.parts = parts

    def run_step(self) -> None:
        """One step of the optimizer; see :meth:`detectron2.engine.SimpleTrainer.run_step`."""
        if not self.model.training:
            raise RuntimeError("the model was changed to evaluation mode during training")
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.optimizer.zero_grad()
        total: dict[str, Tensor] = {}
        parts = self._split(batch)
        for part in parts:
            share = len(part) / len(batch)
            with self._communication(last=part is parts[-1]):
                losses = self._losses(part)
                self._backward(share * sum(losses.values(), torch.zeros(())))
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + share * loss.detach()
        self.after_backward()
        self._write_metrics(total, data_time)
        self._update()

    def _split(self, batch: Sequence[dict]) -> list[Sequence[dict]]:
        size, rest = divmod(len(batch), self.parts)
        if rest or not size:
            raise ValueError(f"a batch of {len(batch)} cannot be split into {self.parts} parts")
        return [batch[i : i + size] for i in range(0, len(batch), size)]

    def _communication(self, last: bool) -> AbstractContextManager:
        """Process exchange gradients once a step: with the last part."""
        if isinstance(self.model, DistributedDataParallel) and not last:
            return self.model.no_sync()
        return nullcontext()

    def _losses(self, part: Sequence[dict]) -> dict[str, Tensor]:
        return self.model(part)

    def _backward(self, loss: Tensor) -> None:
        loss.backward()

    def _update(self) -> None:
        self.optimizer.step()


def loss_scaler(device_type: str, precision: torch.dtype) -> torch.amp.GradScaler:
    """Build what scales the loss, in float16 alone, whose gradients end at 65504.

    It starts at 2^12 and not at PyTorch's 2^16, which has no room for a gradient above 1: that of
    the flow layer passes it once the flow is learnt, and its steps would be left out.
    """
    enabled = precision is torch.float16
    return torch.amp.GradScaler(device_type, init_scale=2.0**12, enabled=enabled)


class AccumulatingAMPTrainer(AccumulatingTrainer, AMPTrainer):
    """The same in mixed precision, on a CPU too.

    In float16 the loss is scaled, once for all parts of a step, and a step whose gradients overflow
    is left out; bfloat16 reaches as far as float32 and needs no scale.
    """

    def __init__(
        self, model: nn.Module, *args: Any, precision: torch.dtype = torch.float16, **kwargs: Any
    ) -> None:
        """
        Args:
            model: the model.
            args, kwargs: those of `AccumulatingTrainer` and of Detectron2's `AMPTrainer`.
            precision: type of convolutions and matrix products.
        """
        self._device_type = next(model.parameters()).device.type
        if kwargs.get("grad_scaler") is None:
            kwargs["grad_scaler"] = loss_scaler(self._device_type, precision)
        super().__init__(model, *args, **kwargs)
        self.precision = precision

    def _losses(self, part: Sequence[dict]) -> dict[str, Tensor]:
        with mixed_precision(self._device_type, self.precision):
            return self.model(part)

    def _backward(self, loss: Tensor) -> None:
        self.grad_scaler.scale(loss).backward()

    def _update(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
