"""From command-line arguments to a frozen config, with its datasets registered."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from iff_detectron2.config import add_iff_config
from iff_detectron2.data import register_from_specs

from .postprocess import check_postprocess


def load_config(
    config_file: str,
    opts: list[str] | None = None,
    *,
    add_config: Callable[[CfgNode], None] | None = None,
) -> CfgNode:
    """Read a config file, apply `KEY VALUE` overrides and register its datasets.

    Without a GPU the device falls back to the CPU, so that every config runs everywhere.

    Args:
        config_file: path of the file.
        opts: keys and values in turn.
        add_config: adds keys of a project of one's own, in place.

    Raises:
        FileNotFoundError: if the file does not exist.
        KeyError: for a key that does not exist.
        ValueError: if TEST.VIDEO.POSTPROCESS does not go with the rest.
    """
    cfg = get_cfg()
    add_iff_config(cfg)
    if add_config is not None:
        add_config(cfg)
    cfg.merge_from_file(config_file)
    cfg.merge_from_list(opts or [])
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    check_postprocess(cfg)  # what is wrong with it is better known before training than after
    register_from_specs(cfg.DATASETS.REGISTER)
    return cfg


def setup(args: argparse.Namespace, add_config: Callable[[CfgNode], None] | None = None) -> CfgNode:
    """Detectron2's usual set-up of a training script: config, logger, output folder, seed."""
    cfg = load_config(args.config_file, args.opts, add_config=add_config)
    if cfg.MODEL.DEVICE == "cpu" and comm.get_world_size() > 1 and torch.cuda.is_available():
        raise ValueError(
            "MODEL.DEVICE is cpu, but on a machine with GPUs Detectron2 connects processes for "
            "GPUs; hide them with CUDA_VISIBLE_DEVICES= to train in several CPU processes"
        )
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="iff_detectron2")
    return cfg
