"""What the tests of runs over videos share: frames, a tiny model and its command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from toy_models import CONFIGS, TINY, build, randomise_flow, tiny_cfg

# Small images keep the many comparisons cheap; the test resize still has something to do.
SIZES = [
    *("INPUT.MIN_SIZE_TEST", 40, "INPUT.MAX_SIZE_TEST", 64),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "TEST.DETECTIONS_PER_IMAGE", 10),
]
CONFIG_FILE = CONFIGS / "MovingShapes" / "iff_net_C.yaml"


def make_frames(length, height=48, width=72, seed=0):
    """Frames with coarse texture, uint8 BGR."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (length, height // 8, width // 8, 3), dtype=np.uint8)
    return list(coarse.repeat(8, axis=1).repeat(8, axis=2))


def write_frames(folder: Path, frames) -> list[Path]:
    """Write `0.png`, `1.png`, ... without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{t}.png" for t in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        Image.fromarray(frame[:, :, ::-1]).save(path)
    return paths


def spread_scores(model) -> None:
    """Take the scores of random weights so far apart that rounding changes no order."""
    for layer in (
        model.roi_heads.box_predictor.cls_score,
        model.proposal_generator.rpn_head.objectness_logits,
    ):
        layer.weight.data.mul_(300)


def make_model(*opts):
    """Return a model whose flow moves and whose scores differ."""
    model = build(tiny_cfg(*SIZES, *opts))
    randomise_flow(model)
    spread_scores(model)
    return model


def command(folder: Path, *arguments, opts=()) -> list[str]:
    """Arguments of a verb with the tiny model, whose weights are saved in the folder."""
    weights = folder / "weights.pth"
    if not weights.is_file():
        torch.save({"model": make_model().state_dict()}, weights)
    settings = [str(value) for value in (*TINY, *SIZES, *opts)]
    return [
        *("--config-file", str(CONFIG_FILE), "--weights", str(weights)),
        *map(str, arguments),
        *settings,
    ]
