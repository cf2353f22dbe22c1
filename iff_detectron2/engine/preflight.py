"""What can be known of a model and its datasets before anything is computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch import nn

_SHOWN = 10


def num_classes(model: nn.Module) -> int | None:
    """Return the number of things that a detector tells apart; None where it does not say."""
    owner = getattr(model, "roi_heads", model)
    number = getattr(owner, "num_classes", None)
    return number if isinstance(number, int) else None


def class_names(dataset_name: str) -> list[str] | None:
    """Return the class names of a registered dataset; None where it has none."""
    names = MetadataCatalog.get(dataset_name).get("thing_classes", None)
    return None if names is None else list(names)


def check_classes(model: nn.Module, train: Iterable[str], test: Iterable[str]) -> None:
    """Hold the model's number of classes against the class names of its datasets.

    Args:
        model: a detector.
        train: names of the training sets, whose classes the model learns.
        test: names of the test sets.

    Raises:
        ValueError: if the numbers differ, or a test set has the classes of the training set in
            another order.
    """
    number = num_classes(model)
    learned: tuple[str, list[str]] | None = None
    for dataset, is_train in (*((d, True) for d in train), *((d, False) for d in test)):
        names = class_names(dataset)
        if names is None:
            continue
        if number is not None and number != len(names):
            key = "MODEL.ROI_HEADS.NUM_CLASSES" if hasattr(model, "roi_heads") else "NUM_CLASSES"
            more = ", ..." if len(names) > _SHOWN else ""
            raise ValueError(
                f"the model tells {number} class(es) apart, but {dataset!r} has {len(names)} "
                f"({', '.join(names[:_SHOWN])}{more}); set {key} of the model to {len(names)}, or "
                "choose another dataset"
            )
        if is_train:
            learned = learned or (dataset, names)
        elif learned is not None and names != learned[1]:
            _compare(dataset, names, *learned)


def _compare(test: str, names: list[str], train: str, learned: list[str]) -> None:
    """Refuse other orders of the same classes; other names may mean the same, and are told."""
    place, (here, there) = next(
        (k, pair) for k, pair in enumerate(zip(names, learned, strict=True)) if pair[0] != pair[1]
    )
    what = f"class {place} is {here!r} in {test!r} and {there!r} in {train!r}"
    if set(names) == set(learned):
        raise ValueError(f"{what}: the same classes must have the same order")
    logging.getLogger(__name__).warning("%s; they count as the same class", what)


def check_test_sets(trainer_class: Any, cfg: Any) -> None:
    """Open the test sets as the evaluation will: what it would refuse is refused now.

    Args:
        trainer_class: makes evaluators and loaders, as `VideoTrainer` does.
        cfg: config of the training.

    Raises:
        FileNotFoundError, OSError, ValueError: for a set that cannot be scored, or of which the
            first frame cannot be read.
    """
    for name in cfg.DATASETS.TEST:
        if comm.is_main_process():
            # What Detectron2's evaluator kept of an earlier run may be of other annotations.
            kept = Path(cfg.OUTPUT_DIR, "inference", name, f"{name}_coco_format.json")
            kept.unlink(missing_ok=True)
        comm.synchronize()
        samples = cast(Any, trainer_class.build_test_loader(cfg, name).dataset)
        try:
            trainer_class.build_evaluator(cfg, name)
        except ValueError as error:
            raise ValueError(f"{name!r} of DATASETS.TEST cannot be scored: {error}") from error
        if len(samples):
            samples[0]
