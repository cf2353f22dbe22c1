"""Checks what temporal aggregation promises on a detector that somebody brings.

python projects/check_detector.py NAME_OR_CONFIG [--import MODULE[:FUNCTION]] [--backbone PATH]
    [--branches] [--tiny] [--size HEIGHT WIDTH] [KEY VALUE ...]
python projects/check_detector.py --all

NAME_OR_CONFIG: a config file (.yaml, or .py for a LazyConfig with `model`), one of Detectron2's
model zoo by its name, or a registered meta-architecture, which gets Detectron2's default config.
The detector is the plain one, built on random weights. Each property is printed with whether it
holds; the exit code is the number of those that do not.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from detector_checks import Subject, run_checks
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.registry import locate
from torch import nn
from tried_detectors import TRIED

from iff_detectron2 import add_iff_config
from iff_detectron2.engine import load_config, load_lazy_config
from iff_detectron2.engine.config_file import find_config, import_project, merge_overrides
from iff_detectron2.modeling import TemporalAggregation, make_video_arch
from iff_detectron2_cli.arguments import run_told
from iff_detectron2_cli.config import add_import_argument

# Narrow temporal parts and a small window: what is checked depends on neither.
NARROW = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.IFF.FLOW.CHANNELS", 8, "MODEL.IFF.FLOW.PAIR_CHANNELS", 8),
    *("MODEL.IFF.FLOW.MAX_DISPLACEMENT", 2, "MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS", 8),
    *("MODEL.IFF.EMBEDDING.CHANNELS", 8, "TEST.VIDEO.NUM_REFS", 2),
]
# So are channels, classes and proposals of Detectron2's own parts; depth, strides, heads and names
# stay as in the config.
TINY = [
    *("MODEL.PIXEL_STD", [57.375, 57.12, 58.395]),  # else maps of random weights overflow
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 32, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 32, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.PRE_NMS_TOPK_TEST", 100),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 40, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 5, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.CONV_DIM", 32),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_MASK_HEAD.NUM_CONV", 1),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [32, 32]),
    *("MODEL.RETINANET.NUM_CLASSES", 5, "MODEL.RETINANET.NUM_CONVS", 1),
    *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "TEST.DETECTIONS_PER_IMAGE", 10),
]
SIZE, TINY_SIZE = (96, 128), (49, 65)


def subject_of_config(cfg: CfgNode, size: tuple[int, int] = SIZE, **seam: Any) -> Subject:
    """Return the subject of a plain detector's config, which has the keys of the temporal part.

    Args:
        cfg: the config.
        size: height and width of the images.
        seam: what else `make_video_arch` is to know of the detector.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    plain = META_ARCH_REGISTRY.get(name)
    cls = make_video_arch(plain, **seam)

    def build_video(cfg: CfgNode) -> nn.Module:
        cfg = cfg.clone()
        cfg.MODEL.META_ARCHITECTURE = cls.__name__
        return META_ARCH_REGISTRY.get(cls.__name__)(cfg)

    classes = min(cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.RETINANET.NUM_CLASSES)
    return Subject(cfg, lambda: plain(cfg), build_video, size, classes)


def subject_of_lazy_model(
    model: Any, cfg: CfgNode, size: tuple[int, int] = SIZE, num_classes: int = 2, **seam: Any
) -> Subject:
    """Return the subject of a LazyConfig's `model`, and a config with temporal keys."""

    def build_video(cfg: CfgNode) -> nn.Module:
        target = model["_target_"]
        cls = video_class(locate(target) if isinstance(target, str) else target, **seam)
        arguments = {name: instantiate(part) for name, part in model.items() if name != "_target_"}
        return cls(**arguments, temporal=lambda shapes: TemporalAggregation(cfg, shapes))

    return Subject(cfg, lambda: instantiate(model), build_video, size, num_classes)


def video_class(plain: type[nn.Module], **seam: Any) -> type[nn.Module]:
    """Return the video version of a class: one that is there, as VideoFCOS, or a new one."""
    name = f"Video{plain.__name__}"
    if name in META_ARCH_REGISTRY and issubclass(META_ARCH_REGISTRY.get(name), plain):
        return META_ARCH_REGISTRY.get(name)
    return make_video_arch(plain, **seam)


def read_subject(args: argparse.Namespace) -> Subject:
    """Return the detector of the arguments.

    Raises:
        FileNotFoundError, ValueError, ImportError: if there is no such detector, or its config is
            wrong.
    """
    add_config = import_project(args.imports)
    size = tuple(args.size or (TINY_SIZE if args.tiny else SIZE))
    common = {"size": size, "backbone": args.backbone, "branches": args.branches}
    settings = [*NARROW, "INPUT.MIN_SIZE_TEST", min(size), "INPUT.MAX_SIZE_TEST", max(size)]
    if args.tiny:
        settings += TINY
    if args.detector in META_ARCH_REGISTRY:
        cfg = get_cfg()
        add_iff_config(cfg)
        add_config(cfg)
        cfg.MODEL.META_ARCHITECTURE = args.detector
        merge_overrides(cfg, [*settings, *args.opts])
        return subject_of_config(cfg, **common)
    if find_config(args.detector).suffix == ".py":
        cfg = get_cfg()
        add_iff_config(cfg)
        cfg.merge_from_list(settings)
        lazy = load_lazy_config(args.detector, args.opts)
        return subject_of_lazy_model(lazy.model, cfg, **common)
    cfg = load_config(args.detector, [*settings, *args.opts], add_config=add_config)
    cfg.defrost()
    return subject_of_config(cfg, **common)


def check(args: argparse.Namespace) -> int:
    """Check the detector of the arguments and return how many properties do not hold."""
    results = run_checks(read_subject(args))
    for name, (holds, seen) in results.items():
        print(f"{'yes' if holds else 'NO ':3}  {name:36} {seen}", flush=True)
    return sum(not holds for holds, _ in results.values())


def check_all(parse: Any) -> int:
    """Check every detector that is known to hold."""
    lacking = 0
    for detector, words in TRIED.items():
        print(f"\n{detector}: {words}", flush=True)
        lacking += check(parse(shlex.split(words)))
    return lacking


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and return how many properties do not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", metavar="NAME_OR_CONFIG", nargs="?", default="")
    parser.add_argument("--all", action="store_true", help="check those of projects/README.md")
    add_import_argument(parser)
    parser.add_argument("--backbone", default="", help="where it is, as transformer.backbone")
    parser.add_argument("--branches", action="store_true", help="it makes several maps per image")
    parser.add_argument("--tiny", action="store_true", help="narrow Detectron2's own parts")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("opts", metavar="KEY VALUE", nargs="*", default=[])
    # Options may stand anywhere, also behind the overrides.
    parse = parser.parse_intermixed_args
    args = parse(arguments)
    if bool(args.detector) == args.all:
        parser.error("name a detector or a config, or else --all")
    return run_told(parser.prog, lambda: check_all(parse) if args.all else check(args))


if __name__ == "__main__":
    sys.exit(main())
