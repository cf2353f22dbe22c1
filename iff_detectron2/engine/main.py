"""Detectron2's command line over a trainer: what train_net.py and those of projects run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from .checkpoint import VideoCheckpointer
from .defaults import setup
from .launcher import run_distributed
from .missing_weights import needed_weights
from .preflight import check_classes, check_test_sets
from .trainer import VideoTrainer

AddConfig = Callable[[CfgNode], None]


def train_or_test(
    args: argparse.Namespace,
    trainer_class: type[VideoTrainer] = VideoTrainer,
    add_config: AddConfig | None = None,
) -> Any:
    """Trains, or with `--eval-only` tests, in one process of maybe several."""
    cfg = setup(args, add_config)
    if args.eval_only:
        model = trainer_class.build_model(cfg)
        needs = needed_weights(cfg, training=False)
        checkpointer = VideoCheckpointer(model, cfg.OUTPUT_DIR, needs=needs)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        check_test_sets(trainer_class, cfg)
        check_classes(model, (), cfg.DATASETS.TEST)
        results = trainer_class.test(cfg, model)
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def launch_from_command_line(
    trainer_class: type[VideoTrainer] = VideoTrainer,
    *,
    add_config: AddConfig | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run a training script: parse Detectron2's arguments and start the processes, unless torchrun
    or SLURM's srun did.

    Args:
        trainer_class: the trainer; a project may bring its own.
        add_config: adds the keys of a project to its config, in place.
        argv: arguments, those of the command line if left out.
    """
    args = default_argument_parser().parse_args(argv)
    run_distributed(
        train_or_test,
        (args, trainer_class, add_config),
        processes=args.num_gpus,
        machines=args.num_machines,
        machine_rank=args.machine_rank,
        address=args.dist_url,
    )
