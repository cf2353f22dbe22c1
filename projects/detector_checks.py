"""What temporal aggregation promises, as checks of a detector on random weights."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from made_samples import textured_clip, window_sample, with_proposals, with_truth
from torch import Tensor, nn

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.modeling import VideoMixin
from iff_detectron2.modeling.seam import image_backbone

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
    _built: dict[tuple, tuple[nn.Module, Any]] = field(default_factory=dict, repr=False)

    def pair(self, *opts: Any) -> tuple[nn.Module, Any]:
        """Return the plain detector and the video one on its weights, with flow that moves."""
        if opts not in self._built:
            self._built[opts] = self._build(*opts)
        return copy.deepcopy(self._built[opts])

    def _build(self, *opts: Any) -> tuple[nn.Module, Any]:
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
        """Return frames of the size that is wanted."""
        return textured_clip(length, self.size)


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
    branches = [fusion.levels for fusion in model.temporal.last]
    return output, {n: torch.cat([levels[n].feature for levels in branches]) for n in branches[0]}


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
    samples = [window_sample(clip, t, o, False) for t, o in ((1, (-1, 2)), (3, (-1, -2)))]
    masks = subject.cfg.INPUT.MASK_FORMAT
    batch = [with_truth(with_proposals(x), subject.num_classes, masks) for x in samples]
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
    return f"loss_trl {losses['loss_trl'].item():.3g}"


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


def run_checks(subject: Subject) -> dict[str, tuple[bool, str]]:
    """Return for each property whether it holds, and what was seen."""

    def run(check: Callable[[Subject], str]) -> tuple[bool, str]:
        try:
            return True, check(subject)
        except Exception as error:  # whatever a detector does: it is the result
            return False, f"{type(error).__name__}: {error}"

    return {name: run(check) for name, check in CHECKS.items()}
