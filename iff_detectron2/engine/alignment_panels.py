"""Pictures of what a training's flow does to a frame of the test set, for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from iff_detectron2.modeling import Aggregator
from iff_detectron2.structures import TemporalWindow
from iff_detectron2.video.frames import read_frame
from iff_detectron2.visualization.image import for_tensorboard
from iff_detectron2.visualization.panel import alignment_panel
from iff_detectron2.visualization.plots import COLORS, tidy

from .measured_videos import MeasuredVideos
from .window_alignment import (
    WarpError,
    align_window,
    rows_of,
    warp_errors,
    window_sample,
)

_TILE, _ROWS = 240, 4


class AlignmentPanels(HookBase):
    """Every VIS_PERIOD iterations looks at the middle frame of the first test video.

    `iff/flow` is the panel of `iff-detectron2 flow`, `iff/weights` the mean weight of each
    reference frame by its offset, `iff/residual` what is left of the features' difference to the
    key frame after the warp. Nothing is written where the model has no flow, or DATASETS.TEST or
    its window no frame.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        """
        Args:
            cfg: config of the training; the first of DATASETS.TEST is looked at.
            model: the detector, which may be a part of what is trained, or within DDP.
        """
        self.cfg = cfg
        self.model: Any = getattr(model, "module", model)
        self._sample: dict[str, Any] | None = None

    def before_train(self) -> None:
        flows = [m for m in self.model.modules() if isinstance(m, Aggregator) and m.estimates_flow]
        if not (flows and self.cfg.VIS_PERIOD and self.cfg.DATASETS.TEST):
            return
        window = TemporalWindow.from_config(self.cfg)
        videos = MeasuredVideos(self.cfg, self.cfg.DATASETS.TEST[0], max_videos=1)
        ((_, files),) = videos.files.items()
        key = len(files) // 2
        first = max(key + min(window.offsets, default=0), 0)
        shown = files[first : key + window.lookahead + 1]
        if window.num_refs and len(shown) > 1:
            frames = [read_frame(file, "BGR") for file in shown]
            self._sample = window_sample(self.cfg, frames, key - first)

    @torch.no_grad()
    def after_step(self) -> None:
        if self._sample is None or (self.trainer.iter + 1) % self.cfg.VIS_PERIOD:
            return
        training = self.model.training
        alignment = align_window(self.model.eval(), self._sample)
        errors = warp_errors(alignment, self._sample)
        offsets = sorted({e.offset for e in errors} - {0})
        chosen = np.unique(np.linspace(0, len(offsets) - 1, _ROWS).round().astype(int))
        rows = rows_of(alignment, self.model, self._sample, [offsets[i] for i in chosen])
        self.model.reset()
        self.model.train(training)
        storage = self.trainer.storage
        storage.put_image("iff/flow", for_tensorboard(alignment_panel(rows, tile_size=_TILE)))
        storage.put_image("iff/weights", for_tensorboard(_picture(weight_bars(errors))))
        before, after = np.mean([(e.feature_before, e.feature_after) for e in errors], axis=0)
        storage.put_scalar("iff/residual", float(after / max(before, 1e-12)))


def weight_bars(errors: Sequence[WarpError]) -> Figure:
    """Draw the mean weight of each reference frame over its offset from the key frame.

    Args:
        errors: of `warp_errors`.
    """
    figure = Figure(figsize=(6, 3), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.bar([e.offset for e in errors], [e.weight for e in errors], 0.8, color=COLORS[1])
    axes.set(xlabel="offset of the reference frame (frames)", ylabel="mean weight", ylim=(0, None))
    tidy(axes, grid_axis="y")
    return figure


def _picture(figure: Figure) -> np.ndarray:
    """Return a figure as uint8 BGR."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 2::-1]
