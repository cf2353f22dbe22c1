"""A trained detector and raw video in, a temporal detector and a report out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import yaml
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from tabulate import tabulate

from iff_detectron2.engine.adaptation import (
    ADAPTED_CONFIG,
    KEPT,
    RESTORED,
    AdaptationTrainer,
    as_video_config,
    held_out_clips,
    judge,
)
from iff_detectron2.engine.checkpoint import LAST_CHECKPOINT
from iff_detectron2.engine.config_file import config_chain, find_config, merge_overrides
from iff_detectron2.engine.defaults import read_config
from iff_detectron2.modeling.adaptation import Adaptation
from iff_detectron2.structures import TemporalWindow
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.utils.folder_lock import own_folder

from .adaptation_report import AgreementRow, agreement

REPORT = "adaptation.json"
# Videos whose detections are compared in the report.
_COMPARED = 4
# Keys that may differ where a run goes on: they change no step that is done.
_MAY_CHANGE = (
    *("OUTPUT_DIR", "VIS_PERIOD", "DATALOADER", "CUDNN_BENCHMARK", "MODEL.DEVICE", "MODEL.WEIGHTS"),
    *("SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST", "MODEL.IFF.ADAPT.PATIENCE"),
)


def adaptation_config(
    cfg: CfgNode, inputs: Sequence[str], output: Path, opts: Sequence[Any] = ()
) -> CfgNode:
    """Turn the config of a trained detector into that of its adaptation.

    Args:
        cfg: config of a plain or a video detector.
        inputs: raw videos.
        output: folder for the results.
        opts: KEY VALUE overrides, which have the last word.

    Raises:
        ValueError: if the detector has no video version, or an override is wrong.
    """
    cfg = cfg.clone()
    cfg.defrost()
    as_video_config(cfg)
    cfg.MODEL.IFF.ADAPT.ENABLED = True
    cfg.MODEL.IFF.ADAPT.INPUTS = [str(path) for path in inputs]
    cfg.OUTPUT_DIR = str(output)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    # The schedule of the detector was for other weights and another optimizer.
    solver = cfg.SOLVER
    solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH = 1e-3, 1e-4, 2
    solver.LR_SCHEDULER_NAME, solver.MAX_ITER, solver.WARMUP_ITERS = "WarmupCosineLR", 1000, 20
    solver.CLIP_GRADIENTS.ENABLED = False
    solver.REFERENCE_WORLD_SIZE = 0
    solver.CHECKPOINT_PERIOD = cfg.TEST.EVAL_PERIOD = 100
    # Beside the losses of a detector it is larger; restoration's own are a few hundredths, and a
    # larger one would lead the flow and the weights alone.
    cfg.MODEL.IFF.TRL.WEIGHT = 0.1
    cfg.INPUT.VIDEO.NUM_REFS = 3
    cfg.INPUT.MIN_SIZE_TRAIN = (cfg.INPUT.MIN_SIZE_TEST,)
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST
    merge_overrides(cfg, list(opts))
    # As far as the window of testing: what lies beyond is harder to align, and never asked for.
    window = TemporalWindow.from_config(cfg)
    cfg.INPUT.VIDEO.MAX_OFFSET = max([1, *map(abs, window.offsets)])
    merge_overrides(cfg, list(opts))  # which may name that key, too
    cfg.freeze()
    return cfg


def adapt_detector(args: argparse.Namespace) -> dict[str, float]:
    """Run the verb `adapt`.

    Args:
        args: `config_file`, `weights`, `imports`, `opts`, `input`, `output`.

    Returns:
        What `judge` measures on held-out clips.

    Raises:
        BlockingIOError: another process writes into the folder.
        FileNotFoundError, OSError, ValueError: for videos, config or weights that cannot be used.
    """
    file = find_config(args.config_file)
    if file.suffix == ".py":
        raise ValueError(
            f"{args.config_file} is a LazyConfig, of which adapt cannot make a video detector; "
            "take a .yaml of the same detector"
        )
    cfg = adaptation_config(read_config(args), args.input, args.output, args.opts)
    if not cfg.MODEL.WEIGHTS and not cfg.MODEL.ALLOW_MISSING_WEIGHTS:
        raise ValueError(
            "adapt wants a trained detector: name its checkpoint with --weights (MODEL.WEIGHTS of "
            f"{args.config_file} is empty)"
        )
    own_folder(cfg.OUTPUT_DIR)
    check_same_run(cfg)
    default_setup(cfg, argparse.Namespace(config_file=str(file), eval_only=False))
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="iff_detectron2")
    trainer = AdaptationTrainer(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    model = cast(Adaptation, trainer.model)
    raw = AdaptationTrainer.read_videos(cfg)
    shares = judge(model, held_out_clips(cfg, raw))
    held_out = list(dict.fromkeys(sample["video_id"] for sample in raw.held_out))
    rows = agreement(cfg, model.detector, [raw.frame_index[v] for v in held_out[:_COMPARED]])
    folder = Path(cfg.OUTPUT_DIR)
    with open_atomically(folder / REPORT) as stream:
        json.dump(
            {"held_out": shares, "agreement": [asdict(row) for row in rows]}, stream, indent=2
        )
    print(report_text(shares, rows))
    print(f"use it: iff-detectron2 predict --config-file {folder / ADAPTED_CONFIG} --input VIDEO")
    return shares


def check_same_run(cfg: CfgNode) -> None:
    """Look whether a run that would go on in OUTPUT_DIR was one of this config.

    Raises:
        ValueError: it was another, or a training of another kind; its config cannot be read.
    """
    folder = Path(cfg.OUTPUT_DIR)
    if not (folder / LAST_CHECKPOINT).is_file() or not (folder / "config.yaml").is_file():
        return
    try:
        earlier = _flat(next(config_chain(folder / "config.yaml")))
    except ValueError as error:
        raise ValueError(f"{error}; remove it to go on with the run of that folder") from None
    now = _flat(yaml.safe_load(cfg.dump()))
    for key in {**earlier, **now}:
        free = any(f"{key}.".startswith(f"{name}.") for name in _MAY_CHANGE)
        if not free and earlier.get(key) != now.get(key):
            raise ValueError(
                f"{folder} holds a run with other settings ({key} was {earlier.get(key)!r}, now "
                f"{now.get(key)!r}): choose another --output, or give the settings of that run"
            )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def report_text(shares: dict[str, float], rows: Sequence[AgreementRow]) -> str:
    """Say in a table and one sentence whether adaptation helped."""
    table = tabulate(
        [[row.frames, row.plain, row.adapted] for row in rows],
        ["held-out frames", "each alone", "adapted"],
        floatfmt=".1f",
    )
    spoilt, clean = rows
    gain, loss = spoilt.adapted - spoilt.plain, clean.plain - clean.adapted
    helped = shares[RESTORED] < 1 and gain > 0
    verdict = (
        f"adaptation helps here: {100 * (1 - shares[RESTORED]):.0f} % of the harm to features is "
        f"undone, {gain:+.1f} AP50 on spoilt frames, {-loss:+.1f} on clean ones"
        if helped
        else "adaptation does not help here: keep the plain detector, or give it more video"
    )
    return (
        "AP50 against what the plain detector finds in the clean frames\n"
        f"{table}\n"
        f"harm left in features of spoilt frames: {shares[RESTORED]:.3f} (1: nothing gained); done "
        f"to clean ones: {shares[KEPT]:.3f}\n{verdict}"
    )
