"""From command-line arguments to a frozen config, with its datasets registered."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from iff_detectron2.config import add_iff_config
from iff_detectron2.data import register_from_specs
from iff_detectron2.utils.folder_lock import own_folder

from .checkpoint import LAST_CHECKPOINT
from .config_check import check_datasets, check_names, fetch_weights
from .config_file import (
    config_chain,
    find_config,
    import_project,
    is_of_zoo,
    merge,
    merge_overrides,
    settle_device,
    zoo_weights,
)
from .lazy_config import load_lazy_config, yacs_of
from .postprocess import check_postprocess


def load_config(
    config_file: str,
    opts: Sequence[Any] | None = None,
    *,
    add_config: Callable[[CfgNode], None] | None = None,
) -> CfgNode:
    """Read a config, apply `KEY VALUE` overrides and register its datasets.

    A config runs no code, unless it came with Detectron2. Where neither it nor the overrides choose
    a device and there is no GPU, the device is the CPU, so that every config runs everywhere.

    Args:
        config_file: path, name of a config of this package (`MovingShapes/iff_net_C`), or name of
            one of Detectron2's model zoo, whose weights are then the zoo's.
        opts: keys and values in turn.
        add_config: adds keys of a project of one's own, in place.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if a key does not exist, a value does not fit, the file is broken, a GPU is
            asked for and not there, or TEST.VIDEO.POSTPROCESS does not go with the rest.
    """
    opts = list(opts or [])
    cfg = get_cfg()
    add_iff_config(cfg)
    if add_config is not None:
        add_config(cfg)
    path = find_config(config_file)
    if path.suffix == ".py":
        raise ValueError(
            f"the config {path} is a LazyConfig, a program: engine.load_lazy_config reads such"
        )
    said = list(config_chain(path))
    read = partial(CfgNode.merge_from_file, cfg_filename=str(path), allow_unsafe=is_of_zoo(path))
    merge(cfg, read, f"the config {path}: ")
    cfg.MODEL.WEIGHTS = zoo_weights(path) or cfg.MODEL.WEIGHTS
    merge_overrides(cfg, opts)
    asked = "MODEL.DEVICE" in opts[::2] or any("DEVICE" in (s.get("MODEL") or {}) for s in said)
    cfg.MODEL.DEVICE = settle_device(cfg.MODEL.DEVICE, asked)
    cfg.freeze()
    check_postprocess(cfg)  # what is wrong with it is better known before training than after
    register_from_specs(cfg.DATASETS.REGISTER)
    return cfg


def read_config(
    args: argparse.Namespace, add_config: Callable[[CfgNode], None] | None = None
) -> CfgNode:
    """Read the config of a command's arguments, with its weights on this machine.

    A LazyConfig comes as what a video run asks of it (`lazy_config.yacs_of`).

    Args:
        args: `config_file` and `opts`; maybe `weights`, instead of MODEL.WEIGHTS; `imports`, specs
            of `import_project`; `resume`, which needs no weights.
        add_config: adds keys of a project of one's own, in place.

    Raises:
        FileNotFoundError, ValueError: as `load_config`, and for names of classes that are not
            registered.
        ImportError: as `import_project`.
        OSError: weights cannot be downloaded.
    """
    if find_config(args.config_file).suffix == ".py":
        view = yacs_of(read_lazy_config(args))
        fetch_weights(view)
        return view
    add_imported = import_project(getattr(args, "imports", ()))

    def add_all(cfg: CfgNode) -> None:
        for add in (add_config, add_imported):
            if add is not None:
                add(cfg)

    opts = [*args.opts]
    if getattr(args, "weights", None):
        opts += ["MODEL.WEIGHTS", args.weights]
    cfg = load_config(args.config_file, opts, add_config=add_all)
    check_names(cfg)
    if not getattr(args, "resume", False):
        fetch_weights(cfg)
    return cfg


def check_output_folder(folder: str, args: argparse.Namespace) -> None:
    """Refuse to train from the start in a folder that holds checkpoints.

    Args:
        folder: OUTPUT_DIR.
        args: arguments of a training script; a program without them decides for itself.

    Raises:
        ValueError: if they ask for that.
    """
    last = Path(folder) / LAST_CHECKPOINT
    anew = not getattr(args, "resume", True) and not getattr(args, "eval_only", False)
    if anew and last.is_file():
        raise ValueError(
            f"{folder} holds the checkpoints of a training, which a new one would "
            "overwrite; go on with --resume, name another OUTPUT_DIR, or remove them"
        )


def read_lazy_config(args: argparse.Namespace) -> DictConfig:
    """Read the LazyConfig of a command's arguments, which runs it.

    Args:
        args: as for `read_config`.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `load_lazy_config` and `import_project`.
    """
    import_project(getattr(args, "imports", ()))
    opts = list(args.opts)
    if getattr(args, "weights", None):
        opts.append(f"train.init_checkpoint='{args.weights}'")
    return load_lazy_config(args.config_file, opts)


def setup(args: argparse.Namespace, add_config: Callable[[CfgNode], None] | None = None) -> CfgNode:
    """Detectron2's usual set-up of a training script: config, logger, output folder, seed.

    Raises:
        FileNotFoundError, ValueError, ImportError, OSError: as `read_config`, for datasets that
            are not registered, and for a folder that holds a run.
        BlockingIOError: another process writes into the folder.
    """
    cfg = read_config(args, add_config)
    check_datasets(cfg, training=not getattr(args, "eval_only", False))
    if cfg.MODEL.DEVICE == "cpu" and comm.get_world_size() > 1 and torch.cuda.is_available():
        raise ValueError(
            "MODEL.DEVICE is cpu, but on a machine with GPUs Detectron2 connects processes for "
            "GPUs; hide them with CUDA_VISIBLE_DEVICES= to train in several CPU processes"
        )
    check_output_folder(cfg.OUTPUT_DIR, args)
    if comm.is_main_process():
        own_folder(cfg.OUTPUT_DIR)
    # Detectron2 copies the file to the log, and knows no names.
    file = str(find_config(args.config_file))
    default_setup(cfg, argparse.Namespace(**{**vars(args), "config_file": file}))
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="iff_detectron2")
    return cfg
