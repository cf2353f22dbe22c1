"""A step whose loss is no number: who was in it, and a file to repeat it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from detectron2.utils import comm
from torch import Tensor

from iff_detectron2.utils.files import open_atomically

from .checkpoint import LAST_CHECKPOINT

if TYPE_CHECKING:
    from .trainer import VideoTrainer


class FiniteLosses:
    """Makes one of Detectron2's trainers of single steps look at the losses of each process.

    Detectron2 looks at the mean over all processes, in the main one, which knows only its own
    samples.
    """

    def _write_metrics(self, loss_dict: dict[str, Tensor], *args: Any, **kwargs: Any) -> None:
        bad = [name for name, loss in loss_dict.items() if not torch.isfinite(loss).all()]
        if bad:
            raise FloatingPointError(f"{' and '.join(bad)} not finite")
        super()._write_metrics(loss_dict, *args, **kwargs)  # type: ignore[misc]


def describe_bad_step(trainer: VideoTrainer, error: FloatingPointError) -> str:
    """Save what training was at before this step, and say in a sentence how to repeat it."""
    rank = comm.get_rank()
    folder = Path(trainer.cfg.OUTPUT_DIR)
    path = folder / f"bad_step_{trainer.iter:07d}{f'_rank{rank}' if rank else ''}.pth"
    state = {**trainer.state_dict(), "iteration": trainer.iter - 1}
    model = trainer.checkpointer.model.state_dict()
    with open_atomically(path, binary=True) as stream:
        content = {"model": model, "trainer": state, "iteration": trainer.iter - 1}
        torch.save(content, stream)
    broken = [n for n, w in model.items() if w.is_floating_point() and not w.isfinite().all()]
    if broken:
        why = (
            f"{len(broken)} weights were not finite before it, first {broken[0]}: training "
            "diverged, so try a lower SOLVER.BASE_LR or SOLVER.CLIP_GRADIENTS"
        )
    else:
        names = getattr(trainer._trainer.data_loader, "latest", [])
        why = f"it was made from {', '.join(names) or 'unknown samples'}"
    reason = " ".join(str(error).split())
    return (
        f"step {trainer.iter}: {reason}; {why}. {path} holds the state before it: write its name "
        f"into {folder / LAST_CHECKPOINT} and add --resume to repeat the step"
    )
