"""Pictures of what adaptation does to a clip, for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.engine import HookBase
from torch import Tensor

from iff_detectron2.modeling.adaptation import Adaptation, AdaptedMap
from iff_detectron2.visualization.image import for_tensorboard, resize
from iff_detectron2.visualization.panel import AlignmentRow, alignment_panel, feature_energy

_TILE = 240


class AdaptationPanels(HookBase):
    """Every VIS_PERIOD iterations writes pictures of a held-out clip: its flow and its features.

    `adapt/flow` has a row per reference frame, `adapt/features` the energy of the key frame's map
    as it is spoilt, restored, and clean, in one scale of colours.
    """

    def __init__(
        self, period: int, clips: Callable[[], Iterator[dict[str, Any]]], *, to_bgr: bool
    ) -> None:
        """
        Args:
            period: iterations between two looks.
            clips: begins the held-out clips anew; the first is shown.
            to_bgr: the images of a clip are RGB.
        """
        self.period = period
        self.clips = clips
        self.to_bgr = to_bgr

    @torch.no_grad()
    def after_step(self) -> None:
        if (self.trainer.iter + 1) % self.period:
            return
        clip = next(self.clips(), None)
        if clip is None:
            return
        model: Adaptation = getattr(self.trainer.model, "module", self.trainer.model)
        training = model.training
        maps, _ = model.eval().adapted_maps(clip)
        model.train(training)
        storage = self.trainer.storage
        storage.put_image("adapt/features", for_tensorboard(features_picture(maps)))
        level = next((name for name, m in maps.items() if m.flow is not None), None)
        if level is not None:
            picture = self._flow_picture(clip, level, maps[level])
            storage.put_image("adapt/flow", for_tensorboard(picture))

    def _flow_picture(self, clip: Mapping[str, Any], level: str, shown: AdaptedMap) -> np.ndarray:
        key, *refs = (self._frame(image) for image in (clip["spoilt_image"], *clip["ref_images"]))
        flow = _array(shown.flow)
        rows = [
            AlignmentRow(key, ref, offset, flow[i], _array(shown.restored)[0], name=level)
            for i, (ref, offset) in enumerate(zip(refs, clip["ref_offsets"], strict=True))
        ]
        return alignment_panel(rows, tile_size=_TILE)

    def _frame(self, image: Tensor) -> np.ndarray:
        frame = image.permute(1, 2, 0).cpu().numpy().astype(np.uint8)
        return np.ascontiguousarray(frame[..., ::-1] if self.to_bgr else frame)


def features_picture(maps: Mapping[str, AdaptedMap]) -> np.ndarray:
    """Lay the energies of each map side by side: spoilt, restored, teacher; a row per map.

    Args:
        maps: of one clip, by name.

    Returns:
        uint8 BGR, the colours of a row in one scale.
    """
    rows = []
    for m in maps.values():
        energies = np.concatenate(
            [feature_energy(_array(x)[0]) for x in (m.spoilt, m.restored, m.teacher)], axis=1
        )
        low, high = float(energies.min()), float(energies.max())
        grey = np.round(255 * (energies - low) / max(high - low, 1e-12)).astype(np.uint8)
        height = round(3 * _TILE * grey.shape[0] / grey.shape[1])
        rows.append(resize(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), 3 * _TILE, height))
    return np.concatenate(rows)


def _array(x: Tensor | None) -> np.ndarray:
    assert x is not None
    return x.float().cpu().numpy()
