"""Writes a detector's programs and their manifest into a folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.deploy.frame_input import frame_input
from iff_detectron2.deploy.manifest import (
    FRAME,
    HEADS,
    IMAGE_FORMATS,
    KEY,
    MANIFEST,
    InputSpec,
    Manifest,
    file_hash,
)
from iff_detectron2.engine.frame_detector import load_model
from iff_detectron2.engine.lazy_config import yacs_of
from iff_detectron2.inference.known_data import known_classes
from iff_detectron2.modeling.seam import VideoMixin
from iff_detectron2.structures import TemporalWindow
from iff_detectron2.utils.folder_lock import owned_folder

from .parts import FramePart
from .session import ExportSession

# Besides those of the manifest that every export has.
_OPTIONAL = ("frame.onnx", "key.onnx", "frame.aoti.pt2", "key.aoti.pt2")
_PACKAGES = ("iff_detectron2", "torch", "torchvision")


@dataclass(frozen=True)
class ExportOptions:
    """How a detector is exported.

    Attributes:
        frame_size: height and width of the frames, to fix all shapes, and with them the number of
            reference frames; None for programs that take any.
        onnx: write ONNX, too, where the packages for it are installed.
        aoti: compile packages of AOTInductor, too.
        overwrite: replace what an earlier export wrote.
    """

    frame_size: tuple[int, int] | None = None
    onnx: bool = True
    aoti: bool = False
    overwrite: bool = False


def export_detector(
    cfg: CfgNode,
    output: str | Path,
    options: ExportOptions | None = None,
    *,
    model: nn.Module | None = None,
    say: Callable[[str], None] = print,
) -> Manifest:
    """Export a detector for inference without it, and without Detectron2.

    Every program is compared with the model, on frames of three sizes where it takes any, before
    it is written. The folder gets its manifest last, so that it is complete or no export.

    Args:
        cfg: config of a plain or a video detector; its window is that of TEST.VIDEO.
        output: folder, which is made.
        options: how.
        model: the model of this config; None to build it and load MODEL.WEIGHTS.
        say: is told each file.

    Returns:
        The manifest.

    Raises:
        ValueError: the folder holds an export already; the detector or its config has something
            that programs cannot have; a program differs from the model.
        FileNotFoundError: the weights are missing.
        BlockingIOError: another process writes into the folder.
    """
    cfg, output, options = yacs_of(cfg), Path(output), options or ExportOptions()
    if (output / MANIFEST).exists() and not options.overwrite:
        raise ValueError(f"{output} holds an exported detector; name another folder or --overwrite")
    _check_config(cfg)
    model = load_model(cfg) if model is None else model.eval()
    frame = FramePart(model)
    spec = _input_spec(cfg, frame, options.frame_size)
    window = TemporalWindow(0)
    if isinstance(model, VideoMixin):
        window = TemporalWindow.from_config(cfg)
    with owned_folder(output), tempfile.TemporaryDirectory(prefix=".export-", dir=output) as made:
        session = ExportSession(model, frame, spec, window, Path(made), say)
        session.run()
        if options.onnx:
            session.write_onnx()
        if options.aoti:
            session.compile()
        names = known_classes(cfg).names
        manifest = Manifest(
            detector=type(model).__name__,
            made_by={name: metadata.version(name) for name in _PACKAGES},
            device=session.device.type,
            input=spec,
            codes=session.codes,
            maps=session.maps,
            fused=tuple(session.fused),
            window=window,
            any_window=session.any_window,
            class_names=None if names is None else tuple(names),
            files={path.name: file_hash(path) for path in sorted(Path(made).iterdir())},
            left_out=session.left_out,
        )
        for name in (MANIFEST, FRAME, KEY, HEADS, *_OPTIONAL):
            (output / name).unlink(missing_ok=True)
        for name in manifest.files:
            os.replace(Path(made) / name, output / name)
        manifest.write(output)
    return manifest


def _check_config(cfg: CfgNode) -> None:
    if cfg.INPUT.FORMAT not in IMAGE_FORMATS:
        raise ValueError(
            f"INPUT.FORMAT {cfg.INPUT.FORMAT} cannot be exported, only "
            f"{' and '.join(IMAGE_FORMATS)}"
        )


def _input_spec(cfg: CfgNode, frame: FramePart, frame_size: tuple[int, int] | None) -> InputSpec:
    """Describe the way from a frame to the program, and compare it with that of the predictor."""
    spec = InputSpec(
        format=cfg.INPUT.FORMAT,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        frame_size=frame_size,
        pixel_mean=tuple(frame.pixel_mean.flatten().tolist()),
        pixel_std=tuple(frame.pixel_std.flatten().tolist()),
        size_divisibility=frame.divisibility,
    )
    picture = np.random.default_rng(0).integers(0, 256, (*(frame_size or (97, 131)), 3), np.uint8)
    own = NetworkInput(cfg)(picture)[None]
    if not torch.equal(own, frame_input(picture, spec)):
        raise ValueError(
            "the frames of this config are prepared in another way than by INPUT.MIN_SIZE_TEST, "
            "INPUT.MAX_SIZE_TEST and INPUT.FORMAT, so that its detector cannot be exported"
        )
    return spec
