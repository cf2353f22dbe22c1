"""Prints what Detectron2 is and does in this process, as JSON.

python tests/detectron2_fingerprint.py [MODULE ...]

The modules are imported first, with all that is in them: what they change shows.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import logging
import pkgutil
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import detectron2
import numpy as np
import torch


def modules_of(package: ModuleType) -> Iterator[tuple[str, ModuleType | str]]:
    """Yield the modules of a package that load, and why the others do not."""
    yield package.__name__, package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", lambda _: None):
        if found.name.endswith("__main__"):
            continue
        try:
            yield found.name, importlib.import_module(found.name)
        except Exception as error:  # what it needs may be missing: that must stay as it is
            yield found.name, type(error).__name__


def code_of(value: Any) -> str | None:
    """Return what runs when something is called, None for what is no function."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if not inspect.isfunction(value):
        return None
    code = value.__code__
    digest = hashlib.sha256(code.co_code + repr(code.co_names).encode()).hexdigest()
    return f"{value.__module__}.{value.__qualname__}:{code.co_firstlineno}:{digest}"


def functions_of(name: str, holder: Any) -> dict[str, str]:
    """Return the code of the functions of a module or a class, those of its classes too."""
    found = {}
    for key, value in sorted(vars(holder).items()):
        if (code := code_of(value)) is not None:
            found[f"{name}.{key}"] = code
        elif inspect.isclass(value) and value.__module__.startswith("detectron2"):
            found[f"{name}.{key}"] = f"{value.__module__}.{value.__qualname__}"
            if not inspect.isclass(holder):
                found.update(functions_of(f"{name}.{key}", value))
    return found


def registered(module: ModuleType) -> dict[str, list[str]]:
    """Return what Detectron2 itself put into the registries of a module."""
    from fvcore.common.registry import Registry

    return {
        f"{module.__name__}.{key}": sorted(
            f"{name}={entry.__module__}.{entry.__qualname__}"
            for name, entry in value._obj_map.items()
            if entry.__module__.startswith("detectron2")
        )
        for key, value in vars(module).items()
        if isinstance(value, Registry)
    }


def behaviour(config: str) -> list[str]:
    """Return losses, outputs and random numbers of a detector on random weights, to the bit."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    cfg = get_cfg()
    cfg.merge_from_file(
        str(Path(detectron2.__file__).parent / "model_zoo/configs/COCO-Detection" / config)
    )
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", 18),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 16),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 20),
            *("MODEL.RPN.POST_NMS_TOPK_TEST", 20, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
            *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 10),
        ]
    )
    torch.manual_seed(0)
    model = build_model(cfg)
    truth = Instances((64, 96), gt_boxes=Boxes(torch.tensor([[5.0, 5.0, 50.0, 50.0]])))
    truth.gt_classes = torch.tensor([1])
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    with EventStorage(0):
        losses = model([{"image": image, "instances": truth}])
    with torch.no_grad():
        (output,) = model.eval()([{"image": image}])
    found = output["instances"]
    numbers = {**losses, "boxes": found.pred_boxes.tensor, "scores": found.scores}
    return [cfg.dump(), str(sorted(model.state_dict())), repr(torch.rand(1).item())] + [
        f"{name} {value.detach().double().numpy().tobytes().hex()}"
        for name, value in sorted(numbers.items())
    ]


def settings() -> dict[str, str]:
    """Return what a package could change for all others."""
    return {
        "type": str(torch.get_default_dtype()),
        "threads": str(torch.get_num_threads()),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "gradients": str(torch.is_grad_enabled()),
        "torch": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "numpy": hashlib.sha256(repr(np.random.get_state()).encode()).hexdigest(),  # noqa: NPY002
        "python": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        "errors": str(np.geterr()),
        "handlers": str(logging.getLogger().handlers),
        "level": str(logging.getLogger("detectron2").level),
        "excepthook": sys.excepthook.__module__,
    }


def fingerprint() -> dict[str, Any]:
    """Return all of it."""
    marks: dict[str, Any] = {"settings": settings(), "functions": {}, "registries": {}}
    marks["lacking"] = {}
    for name, module in modules_of(detectron2):
        if isinstance(module, str):
            marks["lacking"][name] = module
        else:
            marks["functions"].update(functions_of(name, module))
            marks["registries"].update(registered(module))
    for config in ("faster_rcnn_R_50_FPN_1x.yaml", "retinanet_R_50_FPN_1x.yaml"):
        marks[config] = behaviour(config)
    return marks


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    for given in sys.argv[1:]:
        for loaded, module in modules_of(importlib.import_module(given)):
            assert not isinstance(module, str), f"{loaded}: {module}"
    json.dump(fingerprint(), sys.stdout)
