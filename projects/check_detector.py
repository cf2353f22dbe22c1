"""Checks what temporal aggregation promises on a detector that somebody brings.

python projects/check_detector.py NAME_OR_CONFIG [--import MODULE[:FUNCTION]] [--backbone PATH]
    [--size HEIGHT WIDTH] [KEY VALUE ...]

NAME_OR_CONFIG: a config file (.yaml, or .py for a LazyConfig with `model`), one of Detectron2's
model zoo by its name, or a registered meta-architecture, which gets Detectron2's default config.
The detector is the plain one, built on random weights. Each property is printed with whether it
holds; the exit code is the number of those that do not.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg, instantiate
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from detectron2.utils.registry import locate
from torch import Tensor, nn

from iff_detectron2 import add_iff_config
from iff_detectron2.engine import VideoPredictor, load_config, load_lazy_config
from iff_detectron2.engine.config_file import find_config, import_project, merge_overrides
from iff_detectron2.modeling import TemporalAggregation, VideoMixin, make_video_arch
from iff_detectron2.modeling.seam import image_backbone
from iff_detectron2_cli.arguments import run_told
from iff_detectron2_cli.config import add_import_argument

# Narrow temporal parts and a small window: what is checked depends on neither.
NARROW = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.IFF.FLOW.CHANNELS", 8, "MODEL.IFF.FLOW.PAIR_CHANNELS", 8),
    *("MODEL.IFF.FLOW.MAX_DISPLACEMENT", 2, "MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS", 8),
    *("MODEL.IFF.EMBEDDING.CHANNELS", 8, "TEST.VIDEO.NUM_REFS", 2),
]
FRAMES = 4
Maps = dict[str, Tensor]


@dataclass
class Subject:
    """A detector to check.

    Attributes:
        cfg: config with the keys of the temporal part, of testing and of input.
        build_plain: builds the plain detector.
        build_video: builds its video version by a config with other keys of the temporal part.
        size: height and width of the images.
        num_classes: classes that the ground truth may have.
    """

    cfg: CfgNode
    build_plain: Callable[[], nn.Module]
    build_video: Callable[[CfgNode], nn.Module]
    size: tuple[int, int] = (96, 128)
    num_classes: int = 2

    def pair(self, *opts: Any) -> tuple[nn.Module, Any]:
        """Return the plain detector and the video one on its weights, with flow that moves."""
        torch.manual_seed(0)
        plain = self.build_plain()
        for module in plain.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.weight.mul_(0.5)  # else the maps of a deep random net overflow
        cfg = self.cfg.clone()
        cfg.merge_from_list(list(opts))
        video: Any = self.build_video(cfg)
        video.load_state_dict(plain.state_dict(), strict=False)
        for name, parameter in video.named_parameters():
            if ".flow_estimator.flow." in name:
                nn.init.normal_(parameter, std=0.3)
        return plain.eval(), video.eval()

    def clip(self, length: int = FRAMES) -> list[Tensor]:
        """Return frames of coarse random texture, uint8 [3, H, W]."""
        generator = torch.Generator().manual_seed(1)
        height, width = self.size
        coarse = torch.randint(
            0, 256, (length, 3, -(-height // 8), -(-width // 8)), generator=generator
        )
        fine = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
        return list(fine[..., :height, :width].to(torch.uint8))


def window_sample(clip: list[Tensor], t: int, offsets: tuple[int, ...], new_only: bool) -> dict:
    """Return a sample as the test mapper makes it: the whole window, or what a stream lacks."""

    def window(key: int) -> list[int]:
        return [min(max(key + offset, 0), len(clip) - 1) for offset in offsets]

    frames = window(t)
    if new_only:
        seen = {t - 1, *window(t - 1)} if t else set()
        frames = sorted(set(frames) - seen - {t})
    return {
        "image": clip[t],
        "ref_images": [clip[f] for f in frames],
        "ref_offsets": [f - t for f in frames],
        "video_id": "v",
        "frame_index": t,
        "video_length": len(clip),
        "height": clip[t].shape[1],
        "width": clip[t].shape[2],
    }


def with_truth(sample: dict, num_classes: int) -> dict:
    """Add ground truth of every kind that Detectron2's detectors learn from."""
    height, width = sample["image"].shape[-2:]
    share = torch.tensor([[0.05, 0.1, 0.45, 0.8], [0.4, 0.25, 0.95, 0.9]])
    boxes = share * torch.tensor([width, height, width, height])
    truth = Instances((height, width), gt_boxes=Boxes(boxes))
    truth.gt_classes = torch.tensor([0, num_classes - 1])
    outlines = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
    truth.gt_masks = PolygonMasks(outlines)
    along = torch.linspace(0.1, 0.9, 17)[None, :, None]
    points = boxes[:, None, :2] + along * (boxes[:, None, 2:] - boxes[:, None, :2])
    truth.gt_keypoints = Keypoints(torch.cat((points, torch.full((2, 17, 1), 2.0)), dim=2))
    segments = torch.zeros(height, width, dtype=torch.long)
    segments[height // 8 : height // 2, width // 8 : width // 2] = 1
    return {**sample, "instances": truth, "sem_seg": segments}


def with_proposals(sample: dict) -> dict:
    """Add what detectors without a region proposal network are given."""
    height, width = sample["image"].shape[-2:]
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(20, 2, generator=generator) * torch.tensor([width, height]) * 0.6
    high = low + torch.tensor([width, height]) * (
        0.1 + 0.3 * torch.rand(20, 2, generator=generator)
    )
    proposals = Instances((height, width), proposal_boxes=Boxes(torch.cat((low, high), dim=1)))
    proposals.objectness_logits = torch.rand(20, generator=generator)
    return {**sample, "proposals": proposals}


def numbers(value: Any) -> list[Tensor]:
    """Return all tensors of an output in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Instances):
        return numbers(value.get_fields())
    if isinstance(value, dict):
        return [x for name in sorted(value) for x in numbers(value[name])]
    if isinstance(value, list | tuple):
        return [x for one in value for x in numbers(one)]
    return [value.tensor] if isinstance(value, Boxes | BitMasks) else []


@contextmanager
def backbone_maps(model: nn.Module) -> Iterator[list[Maps]]:
    """Collect what comes out of the backbone of a plain detector."""
    seen: list[Maps] = []
    handle = image_backbone(model).register_forward_hook(lambda _, args, out: seen.append(out))
    yield seen
    handle.remove()


@torch.no_grad()
def detect(model: Any, sample: dict) -> tuple[Any, Maps]:
    """Return the output of a video detector for a sample and the maps that it detected on."""
    (output,) = model([with_proposals(sample)])
    levels = model.temporal.last[0].levels
    return output, {name: aggregation.feature for name, aggregation in levels.items()}


def differ(a: Maps, b: Maps) -> float:
    """Return the largest difference of maps in shares of the largest value."""
    return max(float((a[k] - b[k]).abs().max() / b[k].abs().max().clamp(min=1e-12)) for k in b)


def check_construction(subject: Subject) -> str:
    """Build it by its key and by make_video_arch."""
    plain, video = subject.pair()
    names = video.state_dict().keys() - plain.state_dict().keys()
    assert isinstance(video, VideoMixin), "it is no video detector"
    assert isinstance(video, type(plain)), f"it is no {type(plain).__name__}"
    assert all(n.startswith("temporal.") for n in names), f"other weights are new: {sorted(names)}"
    assert plain.state_dict().keys() <= video.state_dict().keys(), "weights have lost their names"
    return f"{type(video).__name__}; maps {', '.join(video.temporal.aggregators)}"


def check_training(subject: Subject) -> str:
    """Take a training step with finite losses, loss_trl among them."""
    plain, video = (model.train() for model in subject.pair())
    clip = subject.clip()
    batch = [
        with_truth(with_proposals(window_sample(clip, t, offsets, False)), subject.num_classes)
        for t, offsets in ((1, (-1, 2)), (3, (-1, -2)))
    ]
    with EventStorage(0):
        expected = plain(batch)
        losses = video(batch)
    names = set(expected) if isinstance(expected, dict) else {"total_loss"}
    assert losses.keys() == names | {"loss_trl"}, f"losses are {sorted(losses)}"
    assert all(torch.isfinite(x).all() for x in losses.values()), f"losses are {losses}"
    sum(losses.values()).backward()
    temporal = {n: p for n, p in video.temporal.named_parameters() if p.requires_grad}
    lacking = [name for name, p in temporal.items() if p.grad is None]
    assert not lacking, f"no gradient reaches {', '.join(lacking)}"
    assert not len(video.temporal.memory), "training keeps frames"
    return f"loss_trl {float(losses['loss_trl']):.3g}"


def check_stream(subject: Subject) -> str:
    """Detect in a stream as in whole windows."""
    plain, video = subject.pair()
    clip = subject.clip()
    streamed = [detect(video, window_sample(clip, t, (-1, 1), True)) for t in range(len(clip))]
    video.temporal.streaming = False
    whole = [detect(video, window_sample(clip, t, (-1, 1), False)) for t in range(len(clip))]
    with torch.no_grad(), backbone_maps(plain) as alone:
        outputs = [plain([with_proposals({"image": image})])[0] for image in clip]
    for output in outputs:
        assert type(output) is type(streamed[0][0]), "the output has another type"
    worst = max(differ(a, b) for (_, a), (_, b) in zip(streamed, whole, strict=True))
    moved = max(differ(a, b) for (_, a), b in zip(streamed, alone, strict=True))
    assert worst < 1e-4, f"maps differ by {worst:.2g} of their largest value"
    assert moved > 1e-3, "aggregation changed nothing, so this says nothing"
    return f"maps differ by {worst:.1g}, from the plain ones by {moved:.1g}"


def check_gate(subject: Subject) -> str:
    """Give the plain detector's output bit for bit while the gate is closed."""
    plain, video = subject.pair("MODEL.IFF.GATE", True, "TEST.VIDEO.CAUSAL", True)
    clip = subject.clip()
    count = 0
    for t, image in enumerate(clip):
        with torch.no_grad():
            (expected,) = plain([with_proposals({"image": image})])
        got, _ = detect(video, window_sample(clip, t, (-2, -1), True))
        pairs = list(zip(numbers(got), numbers(expected), strict=True))
        assert all(torch.equal(a, b) for a, b in pairs), f"frame {t} differs"
        count += sum(b.numel() for _, b in pairs)
    assert count, "nothing was found, so this says nothing"
    return f"{count} numbers are equal"


def check_checkpoints(subject: Subject) -> str:
    """Load checkpoints both ways."""
    plain, video = subject.pair()
    names = video.state_dict().keys() - plain.state_dict().keys()
    with tempfile.TemporaryDirectory() as folder:
        for source, target, missing in ((plain, video, names), (video, plain, set())):
            DetectionCheckpointer(source, folder).save("model")
            for p in target.parameters():
                nn.init.zeros_(p)
            reported: list[Any] = []
            checkpointer = DetectionCheckpointer(target)
            checkpointer._log_incompatible_keys = reported.append
            checkpointer.load(str(Path(folder) / "model.pth"))
            (keys,) = reported
            assert set(keys.missing_keys) == missing, f"missing are {keys.missing_keys}"
            loaded, saved = target.state_dict(), source.state_dict()
            shared = saved.keys() & loaded.keys()
            assert all(torch.equal(loaded[n], saved[n]) for n in shared), "weights differ"
            plain, video = subject.pair()
    return f"{len(names)} weights are the temporal part's"


def _push(subject: Subject, length: int, watch: Callable[[VideoPredictor], None]) -> list:
    _, video = subject.pair()
    predictor = VideoPredictor(subject.cfg, video)
    outputs = []
    for image in subject.clip(length):
        frame = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        outputs += predictor.push_outputs(frame)
        watch(predictor)
    return [*outputs, *predictor.flush_outputs()]


def check_predictor(subject: Subject) -> str:
    """Go through a video with VideoPredictor, to its last frame."""
    outputs = _push(subject, FRAMES + 1, lambda predictor: None)
    assert [index for index, _ in outputs] == list(range(FRAMES + 1)), "frames are missing"
    names = sorted({name for _, output in outputs for name in output})
    return f"outputs {', '.join(names)}"


def check_memory_plan(subject: Subject) -> str:
    """Hold in memory what was planned, within a quarter."""
    height, width = subject.size
    held = [0]
    plans = []

    def watch(predictor: VideoPredictor) -> None:
        if not plans:
            plans.append(predictor.plan(height, width).memory)
        held[0] = max(held[0], predictor.memory.nbytes())

    _push(subject, FRAMES + 1, watch)
    planned = plans[0]
    assert held[0] > 0, "nothing was held"
    off = planned / held[0] - 1
    assert math.isclose(planned, held[0], rel_tol=0.25), f"planned {planned}, held {held[0]} bytes"
    return f"planned {planned} bytes, {off:+.0%} of what was held"


CHECKS = {
    "built by key and by make_video_arch": check_construction,
    "training step": check_training,
    "stream = whole window": check_stream,
    "closed gate = plain detector": check_gate,
    "checkpoints both ways": check_checkpoints,
    "predictor to the last frame": check_predictor,
    "planned memory": check_memory_plan,
}


def subject_of_config(cfg: CfgNode, backbone: str = "", **kwargs: Any) -> Subject:
    """Return the subject of a plain detector's config, which has the keys of the temporal part."""
    name = cfg.MODEL.META_ARCHITECTURE
    plain = META_ARCH_REGISTRY.get(name)
    cls = make_video_arch(plain, backbone=backbone)

    def build_video(cfg: CfgNode) -> nn.Module:
        cfg = cfg.clone()
        cfg.MODEL.META_ARCHITECTURE = cls.__name__
        return META_ARCH_REGISTRY.get(cls.__name__)(cfg)

    classes = min(cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.RETINANET.NUM_CLASSES)
    return Subject(cfg, lambda: plain(cfg), build_video, num_classes=classes, **kwargs)


def subject_of_lazy_model(
    model: Any, cfg: CfgNode, backbone: str = "", num_classes: int = 2, **kwargs: Any
) -> Subject:
    """Return the subject of a LazyConfig's `model`, and a config with temporal keys."""

    def build_video(cfg: CfgNode) -> nn.Module:
        target = model["_target_"]
        plain = locate(target) if isinstance(target, str) else target
        cls = make_video_arch(plain, backbone=backbone)
        arguments = {name: instantiate(part) for name, part in model.items() if name != "_target_"}
        return cls(**arguments, temporal=lambda shapes: TemporalAggregation(cfg, shapes))

    return Subject(cfg, lambda: instantiate(model), build_video, num_classes=num_classes, **kwargs)


def run_checks(subject: Subject) -> dict[str, tuple[bool, str]]:
    """Return for each property whether it holds, and what was seen."""

    def run(check: Callable[[Subject], str]) -> tuple[bool, str]:
        try:
            return True, check(subject)
        except Exception as error:  # whatever a detector does: it is the result
            return False, f"{type(error).__name__}: {error}"

    return {name: run(check) for name, check in CHECKS.items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and return how many properties do not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", metavar="NAME_OR_CONFIG")
    add_import_argument(parser)
    parser.add_argument("--backbone", default="")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128))
    parser.add_argument("opts", metavar="KEY VALUE", nargs="*", default=[])
    # Options may stand anywhere, also behind the overrides.
    args = parser.parse_intermixed_args(arguments)
    return run_told(parser.prog, lambda: check(args))


def check(args: argparse.Namespace) -> int:
    """Check the detector of the arguments and return how many properties do not hold.

    Raises:
        FileNotFoundError, ValueError, ImportError: if there is no such detector, or its config is
            wrong.
    """
    add_config = import_project(args.imports)
    height, width = args.size
    common = {"backbone": args.backbone, "size": (height, width)}
    settings = [
        *NARROW,
        "INPUT.MIN_SIZE_TEST",
        min(args.size),
        "INPUT.MAX_SIZE_TEST",
        max(args.size),
    ]
    if args.detector in META_ARCH_REGISTRY:
        cfg = get_cfg()
        add_iff_config(cfg)
        add_config(cfg)
        cfg.MODEL.META_ARCHITECTURE = args.detector
        merge_overrides(cfg, [*settings, *args.opts])
        subject = subject_of_config(cfg, **common)
    elif find_config(args.detector).suffix == ".py":
        cfg = get_cfg()
        add_iff_config(cfg)
        cfg.merge_from_list(settings)
        lazy = load_lazy_config(args.detector, args.opts)
        subject = subject_of_lazy_model(lazy.model, cfg, **common)
    else:
        cfg = load_config(args.detector, [*settings, *args.opts], add_config=add_config)
        cfg.defrost()
        subject = subject_of_config(cfg, **common)
    results = run_checks(subject)
    for name, (holds, seen) in results.items():
        print(f"{'yes' if holds else 'NO ':3}  {name:36} {seen}")
    return sum(not holds for holds, _ in results.values())


if __name__ == "__main__":
    sys.exit(main())
