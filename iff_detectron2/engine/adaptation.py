"""Training of the temporal part of a detector on video without labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data.samplers import TrainingSampler
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from iff_detectron2.config import add_iff_config
from iff_detectron2.data import TrainingStream
from iff_detectron2.data.adaptation_mapper import AdaptationMapper
from iff_detectron2.data.raw_videos import RawVideos, read_raw_videos
from iff_detectron2.modeling.adaptation import Adaptation, build_adaptation_losses
from iff_detectron2.modeling.seam import VideoMixin
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.utils.seeding import seeded

from .adaptation_panels import AdaptationPanels
from .trainer import VideoTrainer

ADAPTED_CONFIG = "adapted.yaml"
# What the held-out clips are judged by: see `judge`.
RESTORED, KEPT = "restored", "kept"
_BEST = "model_best"
# Reference frames of testing where the config of a plain detector has none.
_NUM_REFS = 10
# Widths of the temporal part where the config has those of the paper, which are for 1024 channels.
_WIDTHS = {
    "FLOW": {"CHANNELS": 128, "PAIR_CHANNELS": 64, "MAX_DISPLACEMENT": 8},
    "EMBEDDING": {"HIDDEN_CHANNELS": 128, "CHANNELS": 256},
}


def as_video_config(cfg: CfgNode) -> None:
    """Make the config of a plain detector that of its video version, in place.

    One that is of a video detector already stays as it is. The temporal part is one for adaptation:
    gated, on the middle maps of a feature pyramid, with one flow, or on all maps of another
    backbone; its widths are those that the config has for it, or else smaller than the paper's.

    Raises:
        ValueError: if there is no video version of the meta-architecture.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    if issubclass(META_ARCH_REGISTRY.get(name), VideoMixin):
        return
    if f"Video{name}" not in META_ARCH_REGISTRY:
        raise ValueError(
            f"there is no video version of MODEL.META_ARCHITECTURE {name}: make one with "
            "iff_detectron2.modeling.make_video_arch"
        )
    cfg.MODEL.META_ARCHITECTURE = f"Video{name}"
    # Configs of plain detectors that are trained beside video detectors look at no other frame.
    cfg.TEST.VIDEO.NUM_REFS = cfg.TEST.VIDEO.NUM_REFS or _NUM_REFS
    iff = cfg.MODEL.IFF
    iff.GATE = True
    if "fpn" in cfg.MODEL.BACKBONE.NAME.lower():
        iff.IN_FEATURES, iff.FLOW.LEVEL = ["p3", "p4", "p5"], "p4"
    papers = get_cfg()
    add_iff_config(papers)
    for part, widths in _WIDTHS.items():
        for key, width in widths.items():
            if iff[part][key] == papers.MODEL.IFF[part][key]:
                iff[part][key] = width


def held_out_clips(cfg: CfgNode, raw: RawVideos) -> Iterator[dict[str, Any]]:
    """Map MODEL.IFF.ADAPT.HELD_OUT_CLIPS frames, spread evenly, the same way in every look."""
    mapper = AdaptationMapper(cfg, frame_index=raw.frame_index)
    count = min(cfg.MODEL.IFF.ADAPT.HELD_OUT_CLIPS, len(raw.held_out))
    for number in range(count):
        with seeded(number):
            yield mapper(raw.held_out[number * len(raw.held_out) // count])


@torch.no_grad()
def judge(model: Adaptation, clips: Iterator[dict[str, Any]]) -> dict[str, float]:
    """Measure aggregation on clips without labels, mean over feature maps.

    Returns:
        `restored`: square error of the aggregated maps of the spoilt key frames, as a share of that
        of the spoilt maps themselves (1: nothing gained); `kept`: what aggregation does to the
        clean key frames, in the same unit (0: nothing). NaN without clips.
    """
    training = model.training
    model.eval()
    sums: dict[str, Tensor] = {}  # of each level, so that the maps of one clip are in memory
    for clip in clips:
        maps, _ = model.adapted_maps(clip)
        for level, m in maps.items():
            of_clip = torch.stack([m.error(x) for x in (m.restored, m.kept, m.spoilt)]).double()
            sums[level] = sums.get(level, torch.zeros_like(of_clip)) + of_clip
    model.train(training)
    if not sums:
        return {RESTORED: math.nan, KEPT: math.nan}
    restored, kept = torch.stack([s[:2] / s[2] for s in sums.values()]).mean(dim=0).tolist()
    return {RESTORED: restored, KEPT: kept}


class EnoughTraining(BaseException):
    """Ends the training loop from within; Detectron2 logs an `Exception` as a failure."""


class Patience(HookBase):
    """Saves the best model by a metric, and ends training that no longer improves it.

    It stands behind the evaluation, whose results it looks at.
    """

    def __init__(self, metric: str, patience: int) -> None:
        """
        Args:
            metric: name of a scalar that is to become small.
            patience: looks without improvement that end the training; 0 for never.
        """
        self.metric = metric
        self.patience = patience
        self.best = math.inf
        self.looks = 0
        self.ended = False  # the best model is what the checkpoint holds

    @property
    def exhausted(self) -> bool:
        """Whether so many looks brought nothing."""
        return bool(self.patience) and self.looks >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "looks": self.looks, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.looks = state["best"], state["looks"]
        self.ended = state.get("ended", False)  # older checkpoints do not say it

    def after_step(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self.metric, (math.inf, -1))
        if iteration != self.trainer.iter:
            return
        if value < self.best:
            self.best, self.looks = value, 0
            self.trainer.checkpointer.save_model(_BEST)
            return
        self.looks += 1
        if self.exhausted:
            logging.getLogger(__name__).info(
                "no better %s than %.4f in %d looks: training ends",
                self.metric,
                self.best,
                self.looks,
            )
            raise EnoughTraining


class AdaptationTrainer(VideoTrainer):
    """Trains what aggregates, with the frozen detector as its teacher; see `Adaptation`.

    The model that is saved is the video detector, under the names that it always has.
    """

    behind_checkpoints = (*VideoTrainer.behind_checkpoints, Patience)

    @classmethod
    def build_model(cls, cfg) -> nn.Module:
        detector = cast(VideoMixin, super().build_model(cfg))
        if not isinstance(detector, VideoMixin):
            raise ValueError(
                f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} has no temporal part to "
                f"train; take Video{cfg.MODEL.META_ARCHITECTURE}"
            )
        return Adaptation(detector, build_adaptation_losses(cfg))

    @staticmethod
    def saved_module(model: nn.Module) -> nn.Module:
        return cast(Adaptation, getattr(model, "module", model)).detector

    @classmethod
    def build_optimizer(cls, cfg, model: nn.Module) -> Optimizer:
        """Return AdamW on the temporal part; single numbers, as gates, learn
        MODEL.IFF.ADAPT.GATE_LR_FACTOR faster."""
        temporal = cast(Adaptation, model).detector.temporal
        trained = [p for p in temporal.parameters() if p.requires_grad]
        solver = cfg.SOLVER
        groups = [
            {"params": [p for p in trained if p.ndim]},
            {
                "params": [p for p in trained if not p.ndim],
                "lr": solver.BASE_LR * cfg.MODEL.IFF.ADAPT.GATE_LR_FACTOR,
                "weight_decay": 0.0,
            },
        ]
        return AdamW(
            [group for group in groups if group["params"]],
            lr=solver.BASE_LR,
            weight_decay=solver.WEIGHT_DECAY,
        )

    @staticmethod
    def read_videos(cfg) -> RawVideos:
        """Read MODEL.IFF.ADAPT.INPUTS.

        Raises:
            FileNotFoundError, OSError, ValueError: as `read_raw_videos`.
        """
        adapt = cfg.MODEL.IFF.ADAPT
        if not adapt.INPUTS:
            raise ValueError("MODEL.IFF.ADAPT.INPUTS is empty; name video files or folders")
        return read_raw_videos(adapt.INPUTS, held_out=adapt.HELD_OUT)

    @classmethod
    def build_train_loader(cls, cfg) -> TrainingStream:
        raw = cls.read_videos(cfg)
        return TrainingStream(
            raw.train,
            AdaptationMapper(cfg, frame_index=raw.frame_index),
            lambda: TrainingSampler(len(raw.train)),
            batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
            group_by_shape=False,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            bad_data=cfg.DATALOADER.BAD_DATA,
            bad_data_limit=cfg.DATALOADER.BAD_DATA_LIMIT,
        )

    @classmethod
    def test(cls, cfg, model: nn.Module, evaluators: Any = None) -> dict[str, Any]:
        """Judge the held-out clips and, where there are labelled test sets, these too.

        Args:
            cfg: config of the training.
            model: the detector, or the `Adaptation` around it.
            evaluators: of the labelled test sets; built from the config if left out.
        """
        model = getattr(model, "module", model)
        results: dict[str, Any] = {}
        if isinstance(model, Adaptation):
            results["adapt"] = judge(model, held_out_clips(cfg, cls.read_videos(cfg)))
            model = model.detector
        if cfg.DATASETS.TEST:
            results.update(super().test(cfg, model, evaluators))
        return results

    def build_hooks(self) -> list[HookBase | None]:
        hooks = super().build_hooks()
        self._patience = Patience(f"adapt/{RESTORED}", self.cfg.MODEL.IFF.ADAPT.PATIENCE)
        position = next(k for k, hook in enumerate(hooks) if isinstance(hook, EvalHook))
        inserted: list[HookBase | None] = [self._patience]
        if self.cfg.VIS_PERIOD and comm.is_main_process():
            raw = self.read_videos(self.cfg)
            inserted.append(
                AdaptationPanels(
                    self.cfg.VIS_PERIOD,
                    lambda: held_out_clips(self.cfg, raw),
                    to_bgr=self.cfg.INPUT.FORMAT == "RGB",
                )
            )
        return [*hooks[: position + 1], *inserted, *hooks[position + 1 :]]

    def train(self) -> Any:
        """Train to the end or until held-out clips no longer gain; leave the best model and config.

        Returns:
            The last results.
        """
        patience = self._patience
        folder, finished = Path(self.cfg.OUTPUT_DIR), self.start_iter >= self.max_iter
        if not (patience.ended and (finished or patience.exhausted)):
            patience.ended = False  # there are more steps, or there is more patience, than before
            with suppress(EnoughTraining):
                super().train()
            patience.ended = True
            # As the trainer itself counts in the checkpoint of the last step.
            self.iter = min(self.iter, self.max_iter - 1)
            if (folder / f"{_BEST}.pth").is_file():
                self.checkpointer.load(str(folder / f"{_BEST}.pth"), checkpointables=[])
            self.checkpointer.save("model_final", iteration=self.iter)
        if comm.is_main_process():
            write_adapted_config(self.cfg, folder / ADAPTED_CONFIG)
        return getattr(self, "_last_eval_results", {})


def write_adapted_config(cfg: CfgNode, path: Path) -> None:
    """Write the config with which the adapted detector is used, its weights beside it."""
    adapted = cfg.clone()
    adapted.defrost()
    adapted.MODEL.WEIGHTS = str(path.parent / "model_final.pth")
    adapted.MODEL.IFF.ADAPT.ENABLED = False
    adapted.MODEL.IFF.ADAPT.INPUTS = []
    with open_atomically(path) as stream:
        stream.write(adapted.dump())
