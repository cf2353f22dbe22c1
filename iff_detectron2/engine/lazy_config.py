"""LazyConfigs: Python files that name the parts of a detector, its loaders and its training.

Reading such a file runs it; that is Detectron2's design. Name only files that you trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data.transforms import ResizeShortestEdge
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from iff_detectron2.config import add_iff_config
from iff_detectron2_cli.arguments import did_you_mean

from .config_file import find_config, merge, settle_device
from .postprocess import check_postprocess


def load_lazy_config(config_file: str, opts: Sequence[str] = ()) -> DictConfig:
    """Read a LazyConfig, which runs it, and apply `key=value` overrides.

    Without a GPU, and unless an override asks for one, `train.device` is the CPU.

    Args:
        config_file: path, or name of one of Detectron2's model zoo, with its suffix `.py`.
        opts: overrides in Hydra's grammar; only arguments of a call may be new keys.

    Raises:
        FileNotFoundError: if there is no such config.
        ValueError: if it is no Python, or an override does not fit.
    """
    path = find_config(config_file)
    try:
        cfg = LazyConfig.load(str(path))
    except SyntaxError as error:
        # Detectron2 raises another that has lost the place.
        found = error.__cause__ if isinstance(error.__cause__, SyntaxError) else error
        raise ValueError(
            f"the config {path} is no Python: {found.msg} in line {found.lineno}"
        ) from None
    if not isinstance(cfg, DictConfig) or "model" not in cfg:
        raise ValueError(f"the config {path} names no `model`")
    for option in opts:
        _check_override(cfg, option)
    try:
        LazyConfig.apply_overrides(cfg, list(opts))
    except (HydraException, OmegaConfBaseException, KeyError, NotImplementedError) as error:
        raise ValueError(f"overrides {' '.join(opts)}: {error}") from None
    asked = any(option.startswith("train.device=") for option in opts)
    if "train" not in cfg:
        cfg.train = {}
    cfg.train.device = settle_device(cfg.train.get("device", "cuda"), asked, key="train.device")
    return cfg


def _check_override(cfg: DictConfig, option: str) -> None:
    """Refuse an override of a key that nobody would read."""
    if "=" not in option:
        raise ValueError(f"the override {option} has no value; a LazyConfig takes KEY=VALUE")
    try:
        key = OverridesParser.create().parse_override(option).key_or_group
    except HydraException as error:
        raise ValueError(f"the override {option}: {' '.join(str(error).split())}") from None
    *path, last = key.split(".")
    if path == ["video"]:
        return  # `yacs_of` looks at these
    section: Any = cfg
    for part in path:
        known = list(section) if isinstance(section, DictConfig) else []
        if isinstance(section, DictConfig) and part not in known:
            raise ValueError(f"there is no key {key}{did_you_mean(part, known)}")
        index: Any = int(part) if isinstance(section, ListConfig) else part
        section = section[index] if OmegaConf.is_config(section) else None
    free = not isinstance(section, DictConfig) or "_target_" in section
    if not free and last not in section:
        raise ValueError(f"there is no key {key}{did_you_mean(last, list(section))}")


def yacs_of(cfg: CfgNode | DictConfig) -> CfgNode:
    """Return what a video run asks of a config; a yacs config as it is.

    From a LazyConfig come `train.init_checkpoint` and `device`, the names of `dataloader.test` and
    `dataloader.train`, the image format and the resizing of the test mapper, the window
    `model.temporal.window`, and keys of TEST.VIDEO from `video`: `video=dict(AMP="bfloat16")`.

    Raises:
        ValueError: if frames are augmented in testing by anything but `ResizeShortestEdge`, or a
            key of `video` does not exist.
    """
    if isinstance(cfg, CfgNode):
        return cfg
    view = get_cfg()
    add_iff_config(view)

    def find(key: str, default: Any = None) -> Any:
        value = OmegaConf.select(cfg, key, default=default)
        return default if value is None else value

    view.MODEL.WEIGHTS = find("train.init_checkpoint", "")
    view.MODEL.DEVICE = cfg.train.device
    # No part of this is built; it makes the description of a run that of this model.
    view.MODEL.META_ARCHITECTURE = OmegaConf.to_yaml(cfg.model)
    view.OUTPUT_DIR = str(find("train.output_dir", view.OUTPUT_DIR))
    for part, key in (("TEST", "test"), ("TRAIN", "train")):
        names = find(f"dataloader.{key}.dataset.names", ())
        view.DATASETS[part] = (names,) if isinstance(names, str) else tuple(names)
    mapper = find("dataloader.test.mapper", {})
    view.INPUT.FORMAT = mapper.get("image_format", "BGR")
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        numbers = find(f"model.{key.lower()}")
        view.MODEL[key] = view.MODEL[key] if numbers is None else list(numbers)
    _set_resizing(view, [instantiate(a) for a in mapper.get("augmentations", ())])
    if OmegaConf.select(cfg, "model.temporal.window") is not None:
        window = instantiate(cfg.model.temporal.window)
        view.TEST.VIDEO.NUM_REFS, view.TEST.VIDEO.STRIDE = window.num_refs, window.stride
        view.TEST.VIDEO.CAUSAL = window.causal
    for key, value in dict(find("video", {})).items():
        pair = [f"TEST.VIDEO.{key}", value]
        merge(view, partial(CfgNode.merge_from_list, cfg_list=pair), "video: ")
    check_postprocess(view)
    view.__dict__["lazy"] = cfg  # no key: `load_model` builds from it
    view.freeze()
    return view


def _set_resizing(view: CfgNode, augmentations: Sequence[Any]) -> None:
    sizes = [
        (a.short_edge_length, a.max_size)
        for a in augmentations
        if isinstance(a, ResizeShortestEdge)
    ]
    if len(sizes) != len(augmentations) or len(sizes) > 1:
        names = ", ".join(type(a).__name__ for a in augmentations)
        raise ValueError(
            f"dataloader.test.mapper.augmentations are {names}; frames of a video are resized by "
            "one ResizeShortestEdge or not at all"
        )
    edge, largest = sizes[0] if sizes else (0, view.INPUT.MAX_SIZE_TEST)
    view.INPUT.MIN_SIZE_TEST = edge if isinstance(edge, int) else edge[0]
    view.INPUT.MAX_SIZE_TEST = int(min(largest, 2**31))


def lazy_of(cfg: CfgNode) -> DictConfig | None:
    """Return the LazyConfig that `yacs_of` made a config of; None for one of its own."""
    return cfg.__dict__.get("lazy")


def build_lazy_model(cfg: DictConfig) -> nn.Module:
    """Build the model of a LazyConfig on its device, without weights."""
    return instantiate(cfg.model).to(torch.device(cfg.train.device))
