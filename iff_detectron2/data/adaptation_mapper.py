"""From a frame of a raw video to a clip whose key frame is there twice: clean and spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable

from .dataset_mapper import VIDDatasetMapper
from .deteriorations import DETERIORATIONS, deteriorate
from .network_input import image_to_tensor


class AdaptationMapper(VIDDatasetMapper):
    """`VIDDatasetMapper` for training, plus `spoilt_image`, of the form of `image`.

    Args:
        kinds: deteriorations to draw from.
        strength: least and largest.
        kwargs: of `VIDDatasetMapper`.
    """

    @configurable
    def __init__(
        self,
        *,
        kinds: Sequence[str] = tuple(DETERIORATIONS),
        strength: tuple[float, float] = (0.4, 1.1),
        **kwargs: Any,
    ) -> None:
        super().__init__(is_train=True, **kwargs)
        self.kinds = tuple(kinds)
        self.strength = strength
        # What is wrong with them is better known now than in a worker.
        deteriorate(np.zeros((1, 1, 3), np.uint8), np.random.default_rng(0), **self._settings)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool = True, dataset_names: Sequence[str] | None = ()
    ) -> dict[str, Any]:
        """Arguments from `MODEL.IFF.ADAPT`, `INPUT`, `INPUT.VIDEO`; `frame_index` is the caller's.

        Raises:
            ValueError: if INPUT.FORMAT is one whose pixels are no colours.
        """
        if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
            raise ValueError(
                f"key frames are spoilt in colour: INPUT.FORMAT must be BGR or RGB, got "
                f"{cfg.INPUT.FORMAT}"
            )
        ret = super().from_config(cfg, is_train, dataset_names)
        del ret["is_train"]
        adapt = cfg.MODEL.IFF.ADAPT
        least, largest = adapt.STRENGTH
        ret.update(
            kinds=tuple(adapt.DETERIORATIONS) or tuple(DETERIORATIONS),
            strength=(least, largest),
        )
        return ret

    @property
    def _settings(self) -> dict[str, Any]:
        return {"kinds": self.kinds, "strength": self.strength}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one dataset dict; errors are those of `VIDDatasetMapper`."""
        sample = super().__call__(dataset_dict)
        image = sample["image"].permute(1, 2, 0).numpy()
        # Detectron2 and `TrainingStream` seed numpy's global generator for each worker or sample.
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        spoilt = deteriorate(image, rng, **self._settings)
        sample["spoilt_image"] = torch.as_tensor(image_to_tensor(spoilt))
        return sample
