"""Did adaptation help? Measured on held-out raw video, without a label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from iff_detectron2.data.deteriorations import DETERIORATIONS, deteriorate
from iff_detectron2.engine.predictor import VideoPredictor
from iff_detectron2.evaluation import evaluate_arrays
from iff_detectron2.structures import Detections, GroundTruth
from iff_detectron2.video.frames import read_frame

# Every third frame is spoilt, so that windows always have clean frames.
SPOILT_EVERY = 3


@dataclass(frozen=True)
class AgreementRow:
    """How far detections agree with those of the plain detector on clean frames.

    Attributes:
        frames: which frames are looked at: "spoilt" or "clean".
        plain: AP50 in percent of each frame alone.
        adapted: AP50 in percent with aggregation.
    """

    frames: str
    plain: float
    adapted: float


def agreement(
    cfg: CfgNode,
    model: nn.Module,
    videos: Sequence[Sequence[str]],
    *,
    threshold: float = 0.5,
    max_frames: int = 120,
    seed: int = 0,
) -> list[AgreementRow]:
    """Compare the plain and the adapted detector where it is known what they should find.

    The labels are what the plain detector finds in a clean frame with a score of `threshold` or
    more. Every third frame is spoilt on purpose: on these frames the adapted detector should agree
    more with the labels than the plain one, and on the clean ones as much as it can.

    Args:
        cfg: config of the adapted detector.
        model: the adapted detector.
        videos: frame names of each held-out video.
        threshold: least score of what counts as a label.
        max_frames: frames of each video that are looked at.
        seed: of the deteriorations.

    Returns:
        A row for the spoilt frames and one for the clean ones; NaN where nothing was labelled.
    """
    plain_cfg = cfg.clone()
    plain_cfg.defrost()
    plain_cfg.TEST.VIDEO.NUM_REFS = 0
    plain, adapted = VideoPredictor(plain_cfg, model), VideoPredictor(cfg, model)
    kinds = tuple(cfg.MODEL.IFF.ADAPT.DETERIORATIONS) or tuple(DETERIORATIONS)
    runs: dict[str, list[Detections]] = {
        name: [] for name in ("labels", "plain", "adapted", "kept")
    }
    spoilt_rows: list[np.ndarray] = []
    start = 0
    for number, names in enumerate(videos):
        names = names[:max_frames]
        clean = [read_frame(name, "BGR") for name in names]
        spoilt = list(_spoilt(clean, kinds, seed + number))
        for run, predictor, frames in (
            ("labels", plain, clean),
            ("plain", plain, spoilt),
            ("adapted", adapted, spoilt),
            ("kept", adapted, clean),
        ):
            results = ((start + t, instances) for t, _, instances in predictor(frames))
            runs[run].append(Detections.from_instances(results))
        spoilt_rows.append(start + np.arange(0, len(names), SPOILT_EVERY))
        start += len(names)
    found = {name: Detections.concatenate(parts) for name, parts in runs.items()}
    is_spoilt = np.zeros(start, bool)
    is_spoilt[np.concatenate([np.zeros(0, int), *spoilt_rows])] = True
    labels = found["labels"]
    labels = labels[np.flatnonzero(labels.scores >= threshold)]

    def ap50(run: str, frames: np.ndarray) -> float:
        return _ap50(labels, found[run], frames)

    return [
        AgreementRow("spoilt", ap50("plain", is_spoilt), ap50("adapted", is_spoilt)),
        # The labels are the plain detector's own: against itself it has what its scores allow.
        AgreementRow("clean", ap50("plain", ~is_spoilt), ap50("kept", ~is_spoilt)),
    ]


def _spoilt(frames: Iterable[np.ndarray], kinds: Sequence[str], seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    for t, frame in enumerate(frames):
        yield frame if t % SPOILT_EVERY else deteriorate(frame, rng, kinds=kinds)


def _ap50(labels: Detections, run: Detections, frames: np.ndarray) -> float:
    """AP50 in percent on the chosen frames, with detections as ground truth."""
    labels = labels[np.flatnonzero(frames[labels.frames])]
    run = run[np.flatnonzero(frames[run.frames])]
    if not len(labels):
        return float("nan")
    classes = int(max(labels.classes.max(), run.classes.max(initial=0))) + 1
    truth = GroundTruth(
        num_frames=len(frames),
        class_names=[str(number) for number in range(classes)],
        frames=labels.frames,
        boxes=labels.boxes,
        classes=labels.classes,
        ignored=np.zeros(len(labels), bool),
    )
    return evaluate_arrays(truth, run).metrics()["mAP50"]
