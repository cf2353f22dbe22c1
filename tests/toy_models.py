"""Small models and clips on random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from iff_detectron2.engine import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
TINY = [
    *("MODEL.DILATED_RESNET.NUM_BLOCKS", "[1,1,1,1]"),
    *("MODEL.DILATED_RESNET.REDUCTION_CHANNELS", 32),
    *("MODEL.IFF.FLOW.CHANNELS", 16, "MODEL.IFF.FLOW.PAIR_CHANNELS", 8),
    *("MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS", 8, "MODEL.IFF.EMBEDDING.CHANNELS", 16),
    *("TEST.VIDEO.NUM_REFS", 4, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
]


def tiny_cfg(*opts, config: str = "MovingShapes/iff_net_C.yaml") -> CfgNode:
    return load_config(str(CONFIGS / config), [*TINY, *opts])


def build(cfg: CfgNode, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_model(cfg).eval()


def randomise_flow(model: torch.nn.Module, scale: float = 0.3) -> None:
    """Give the last flow layers, which start at zero, weights that move something."""
    for name, parameter in model.named_parameters():
        if ".flow_estimator.flow." in name:
            torch.nn.init.normal_(parameter, std=scale)


def make_video(length: int, height: int = 65, width: int = 97, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, height, width)
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(length)
    ]


def window_sample(video, t, offsets, *, streaming_from=None, video_id="v") -> dict:
    """Return a sample as the mapper makes it: the whole window, or only what a stream has not
    seen."""
    length = len(video)
    frames = [min(max(t + o, 0), length - 1) for o in offsets]
    if streaming_from is not None:
        seen = (
            set()
            if t == 0
            else {streaming_from} | {min(max(streaming_from + o, 0), length - 1) for o in offsets}
        )
        frames = sorted(set(frames) - seen - {t})
    return {
        "image": video[t],
        "ref_images": [video[f] for f in frames],
        "ref_offsets": [f - t for f in frames],
        "video_id": video_id,
        "frame_index": t,
        "video_length": length,
        "height": video[t].shape[1],
        "width": video[t].shape[2],
    }


def training_sample(video, t, offsets, boxes, classes) -> dict:
    sample = window_sample(video, t, offsets)
    instances = Instances(tuple(video[t].shape[1:]))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
    return {**sample, "instances": instances}
