"""A stand-in for the download of a small detector of Detectron2's model zoo."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.modeling import build_model

from iff_detectron2.engine import load_config

ZOO = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
SMALL = [
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    *("INPUT.MIN_SIZE_TEST", "48", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    *("MODEL.RPN.POST_NMS_TOPK_TEST", "20", "TEST.DETECTIONS_PER_IMAGE", "5"),
]


class ZooServer:
    """Writes weights in the zoo's format where `iopath` would download them.

    Attributes:
        asked: addresses that were asked for.
        opts: overrides of the zoo's config, for the model whose weights are given.
        forget: forgets what was downloaded.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opts = SMALL
        self.forget: Callable[[], None]

    def download(self, url: str, folder: str, *, filename: str | None = None, **_: object) -> str:
        """Do what `iopath.common.download.download` does."""
        self.asked.append(url)
        torch.manual_seed(0)
        model = build_model(load_config(ZOO, self.opts))
        arrays = {name: value.numpy() for name, value in model.state_dict().items()}
        path = Path(folder) / (filename or url.rpartition("/")[2])
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
        return str(path)
