"""Training and testing of what a LazyConfig describes, as Detectron2's lazyconfig_train_net.py."""

from __future__ import annotations

import argparse
import weakref
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import (
    AMPTrainer,
    SimpleTrainer,
    create_ddp_model,
    default_setup,
    hooks,
)
from detectron2.engine.defaults import default_writers
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from iff_detectron2.utils.folder_lock import own_folder

from .accumulation import loss_scaler
from .checkpoint import VideoCheckpointer
from .config_file import find_config
from .defaults import check_output_folder, read_lazy_config
from .hooks import AlignmentLossHook
from .lazy_config import build_lazy_model
from .optimizer import clip_whole_gradient


def test(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Evaluate a model on `dataloader.test` by `dataloader.evaluator`; nothing without one."""
    if cfg.dataloader.get("evaluator") is None:
        return {}
    results = inference_on_dataset(
        model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    )
    if comm.is_main_process():
        print_csv_format(results)
    return results


def train_or_test_lazily(args: argparse.Namespace) -> dict[str, Any] | None:
    """Train, or with `--eval-only` test, in one process of maybe several.

    Of `train` these are used, with Detectron2's meaning: output_dir, init_checkpoint, max_iter,
    amp, ddp, checkpointer, eval_period, log_period, device, seed; and `clip_gradients`, the largest
    norm of all gradients together, and `trl_warmup_iters`.

    Raises:
        FileNotFoundError, ValueError, ImportError: what is wrong with the config.
    """
    cfg = read_lazy_config(args)
    file = str(find_config(args.config_file))
    if cfg.train.device == "cpu" and cfg.train.get("amp", {}).get("enabled", False):
        raise ValueError("train.amp.enabled needs a GPU, but train.device is cpu")
    check_output_folder(cfg.train.output_dir, args)
    if comm.is_main_process():
        own_folder(cfg.train.output_dir)
    default_setup(cfg, argparse.Namespace(**{**vars(args), "config_file": file}))
    setup_logger(cfg.train.output_dir, distributed_rank=comm.get_rank(), name="iff_detectron2")
    model = build_lazy_model(cfg)
    if not args.eval_only:
        return _train(cfg, model, args.resume)
    VideoCheckpointer(model, cfg.train.output_dir, needs="all").resume_or_load(
        cfg.train.get("init_checkpoint", ""), resume=args.resume
    )
    return test(cfg, model)


def _train(cfg: DictConfig, model: nn.Module, resume: bool) -> dict[str, Any] | None:
    settings = cfg.train
    on_gpu = settings.device != "cpu"
    amp = settings.get("amp", {}).get("enabled", False)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    if settings.get("clip_gradients"):
        clip_whole_gradient(optimizer, settings.clip_gradients)
    loader = instantiate(cfg.dataloader.train)
    parallel = create_ddp_model(
        model,
        **settings.get("ddp", {"broadcast_buffers": False}),
        device_ids=[comm.get_local_rank()] if on_gpu else None,
    )
    of_step = (parallel, loader, optimizer)
    if amp:
        scaler = loss_scaler("cuda", torch.float16)
        trainer = AMPTrainer(*of_step, grad_scaler=scaler)
    else:
        trainer = SimpleTrainer(*of_step)
    checkpointer = VideoCheckpointer(
        parallel, settings.output_dir, trainer=weakref.proxy(trainer), needs="frozen"
    )
    saving = {"period": 5000, **settings.get("checkpointer", {})}
    is_main = comm.is_main_process()
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            AlignmentLossHook(settings.get("trl_warmup_iters", 0)),
            hooks.PeriodicCheckpointer(checkpointer, **saving) if is_main else None,
            hooks.EvalHook(settings.get("eval_period", 0), lambda: test(cfg, model)),
            hooks.PeriodicWriter(
                default_writers(settings.output_dir, settings.max_iter),
                period=settings.get("log_period", 20),
            )
            if is_main
            else None,
        ]
    )
    checkpointer.resume_or_load(settings.get("init_checkpoint", ""), resume=resume)
    start = trainer.iter + 1 if resume and checkpointer.has_checkpoint() else 0
    trainer.train(start, settings.max_iter)
    return None
