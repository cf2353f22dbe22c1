"""Detectron2's command line over a trainer: what train_net.py and those of projects run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from iff_detectron2.utils.folder_lock import owned_folder
from iff_detectron2_cli.arguments import Parser, run_told
from iff_detectron2_cli.train import add_arguments

from .adaptation import AdaptationTrainer
from .checkpoint import VideoCheckpointer
from .config_check import check_datasets
from .config_file import find_config
from .defaults import check_output_folder, read_config, setup
from .launcher import run_distributed
from .lazy_training import train_or_test_lazily
from .missing_weights import needed_weights
from .preflight import check_classes, check_test_sets
from .trainer import VideoTrainer

AddConfig = Callable[[CfgNode], None]


def train_or_test(
    args: argparse.Namespace,
    trainer_class: type[VideoTrainer] = VideoTrainer,
    add_config: AddConfig | None = None,
) -> Any:
    """Trains, or with `--eval-only` tests, in one process of maybe several.

    Args:
        args: of the command line.
        trainer_class: what trains.
        add_config: adds keys of a project to the config.
    """
    cfg = setup(args, add_config)
    if cfg.MODEL.IFF.ADAPT.ENABLED and trainer_class is VideoTrainer and not args.eval_only:
        trainer_class = AdaptationTrainer
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


def launch_training(
    args: argparse.Namespace,
    trainer_class: type[VideoTrainer] = VideoTrainer,
    add_config: AddConfig | None = None,
) -> None:
    """Start the processes that a training script's arguments ask for, unless torchrun or srun did.

    A LazyConfig, whose name ends in `.py`, is trained by what it names itself, without the trainer.

    Args:
        args: of the command line.
        trainer_class: what trains.
        add_config: adds keys of a project to the config.

    Raises:
        FileNotFoundError, ValueError, ImportError, OSError: as `setup`.
    """
    if args.num_machines > 1 and args.dist_url == "auto":
        raise ValueError(
            f"--num-machines is {args.num_machines}: name where they meet with --dist-url "
            "tcp://HOST:PORT, the same on each"
        )
    function: Callable[..., Any] = train_or_test
    arguments: tuple[Any, ...] = (args, trainer_class, add_config)
    if find_config(args.config_file).suffix == ".py":
        function, arguments = train_or_test_lazily, (args,)
    elif args.num_gpus > 1:
        # What is wrong is told once, and not by each process.
        cfg = read_config(args, add_config)
        check_datasets(cfg, training=not args.eval_only)
        check_output_folder(cfg.OUTPUT_DIR, args)
        with owned_folder(cfg.OUTPUT_DIR):
            pass
    try:
        run_distributed(
            function,
            arguments,
            processes=args.num_gpus,
            machines=args.num_machines,
            machine_rank=args.machine_rank,
            address=args.dist_url,
        )
    except FileNotFoundError as error:
        # Of Detectron2's own datasets, whose readers say no more than the name.
        root = Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()
        if error.filename is None or not Path(error.filename).is_relative_to(root):
            raise
        raise FileNotFoundError(
            f"{error.filename} does not exist; set DETECTRON2_DATASETS to the folder that holds "
            "the datasets, or name one that you registered (docs/datasets.md)"
        ) from error


def launch_from_command_line(
    trainer_class: type[VideoTrainer] = VideoTrainer,
    *,
    add_config: AddConfig | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run a training script: parse its arguments, which are Detectron2's, and start the processes.

    What its user did wrong ends the script with one sentence and exit code 2.

    Args:
        trainer_class: the trainer; a project may bring its own.
        add_config: adds the keys of a project to its config, in place.
        argv: arguments, those of the command line if left out.
    """
    parser = Parser(description="Train a video detector, or test it with --eval-only.")
    add_arguments(parser)
    args = parser.parse_args(argv)
    code = run_told(parser.prog, lambda: launch_training(args, trainer_class, add_config))
    if code:
        sys.exit(code)
