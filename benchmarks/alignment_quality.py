"""Does the flow of a trained detector follow the motion, and what is it worth in mAP?

    python benchmarks/alignment_quality.py --config-file CONFIG --weights CHECKPOINT
        [--offsets 1,3,5] [--every 4] [--variants flow,zero,true,none] [KEY VALUE ...]

Prints, on the config's first test set, the end-point error at tracked objects in cells by offset
and by speed beside that of zero flow (on MovingShapes that of the ground, and of objects that
nothing spoils in either frame, too), the residual of the features, and mAP50 of the same model with
its flow, with zero flow, with the true flow of the tracks (an upper end) and with no reference
frame.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from iff_detectron2.data.datasets.builtin import datasets_root
from iff_detectron2.data.moving_shapes import MovingShapesOptions
from iff_detectron2.data.moving_shapes.scene import Scene, planned_scene
from iff_detectron2.data.moving_shapes.storage import read_marker
from iff_detectron2.engine import VideoCheckpointer, VideoTrainer, load_config
from iff_detectron2.engine.alignment_quality import advice, measure_alignment, replaced_flow
from iff_detectron2.engine.measured_videos import MeasuredVideos
from iff_detectron2.modeling.track_motion import track_flow
from iff_detectron2.modeling.video_pass import FusionRequest
from iff_detectron2.structures import TemporalWindow

METRICS = ["mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast"]
VARIANTS = {
    "flow": "its own flow",
    "zero": "zero flow",
    "true": "true flow of the tracks",
    "none": "no reference frame",
}


class KnownVideos(MeasuredVideos):
    """The videos of the test set and all that is known of their motion."""

    def __init__(self, cfg, name: str) -> None:
        super().__init__(cfg, name)
        self.scenes = self._planned(name)

    def true_flow(self, model) -> Callable[[FusionRequest, Tensor], Tensor]:
        """Make what `replaced_flow` needs to put in the flow of tracks and, if known, ground."""
        stride = next(iter(model.temporal.strides.values()))

        def flow_of(request: FusionRequest, flow: Tensor) -> Tensor:
            video = request.memory.video_id
            tracks = [self.tracks[video][t] for t in (request.key, *request.refs)]
            true, known = track_flow(tracks, tuple(flow.shape[-2:]), stride)
            if self.scenes:
                moves = [self.ground_motion(video, request.key, t) for t in request.refs]
                ground = torch.tensor(np.array(moves), dtype=torch.float32) / stride
                true = torch.where(known, true, ground[:, :, None, None])
            return true.to(flow)

        return flow_of

    def ground_motion(self, video: str, key: int, ref: int) -> np.ndarray:
        """Say how far the ground has moved between two frames, in pixels of the input."""
        return self.scenes[video].ground_motion(key, ref) * self.scale

    def spoilt(self) -> Callable[[str, int], set[int]]:
        """Find out which objects something spoils or hides in each frame; draws all videos."""
        found = {
            video: [
                {a.track_id for a in scene.render(t)[1] if a.deterioration or a.occluded}
                for t in range(scene.num_frames)
            ]
            for video, scene in self.scenes.items()
        }
        return lambda video, frame: found[video][frame]

    def _planned(self, name: str) -> dict[str, Scene]:
        """Plan the videos of MovingShapes again; none of other data."""
        split = name.removeprefix("moving_shapes_")
        marker = read_marker(datasets_root() / "moving_shapes") if split != name else None
        if marker is None:
            return {}
        options = MovingShapesOptions(**marker["options"])
        return {
            video: planned_scene(options, split, int(video.rpartition("_")[2]))
            for video in self.files
        }


def chosen_variants(text: str) -> list[str]:
    """Read names joined by commas."""
    names = text.split(",") if text else []
    unknown = sorted(set(names) - VARIANTS.keys())
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(VARIANTS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument(
        "--offsets",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 3, 5],
        help="in frames, joined by commas",
    )
    parser.add_argument("--every", type=int, default=4, help="every n-th frame is measured")
    parser.add_argument(
        "--variants",
        type=chosen_variants,
        default=list(VARIANTS),
        help=f"some of {','.join(VARIANTS)}, joined by commas; empty to measure the flow alone",
    )
    parser.add_argument("--output", type=Path, help="write all numbers to this JSON file")
    parser.add_argument("opts", nargs="*", default=[], help="KEY VALUE overrides of the config")
    args = parser.parse_args()
    cfg = load_config(args.config_file, args.opts)
    name = cfg.DATASETS.TEST[0]
    model = VideoTrainer.build_model(cfg).eval()
    VideoCheckpointer(model).load(args.weights)
    videos = KnownVideos(cfg, name)
    quality = measure_alignment(
        model,
        {video: videos.images(video) for video in videos.files},
        videos.tracks,
        offsets=[s * o for o in args.offsets for s in (-1, 1)],
        every=args.every,
        ground_motion=videos.ground_motion if videos.scenes else None,
        spoilt=videos.spoilt() if videos.scenes else None,
    )
    rows = quality.rows()
    print(f"end-point error of the flow on {name}, in cells")
    print(tabulate(rows, ["", "objects", "flow", "zero flow"], "github", floatfmt=".2f"))
    print(f"residual of the features, after the warp over before: {quality.residual_ratio:.3f}")
    print(advice(quality))
    scores = {variant: score(cfg, model, videos, variant) for variant in args.variants}
    table = [
        [VARIANTS[variant], *(result.get(metric) for metric in METRICS)]
        for variant, result in scores.items()
    ]
    print(f"mAP50 on {name}, {cfg.TEST.VIDEO.NUM_REFS} reference frames")
    print(tabulate(table, ["", "all", "slow", "medium", "fast"], "github", floatfmt=".1f"))
    if args.output:
        measured = {"epe": rows, "residual": quality.residual_ratio, "mAP50": scores}
        args.output.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def score(cfg, model, videos: KnownVideos, variant: str) -> dict[str, float]:
    """Evaluate the model with its own flow, another or none."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = cfg.DATASETS.TEST[:1]
    cfg.OUTPUT_DIR = f"{cfg.OUTPUT_DIR}/alignment_quality/{variant}"
    if variant == "none":
        cfg.TEST.VIDEO.NUM_REFS = 0
    window = model.temporal.window
    model.temporal.window = TemporalWindow(
        cfg.TEST.VIDEO.NUM_REFS, cfg.TEST.VIDEO.STRIDE, cfg.TEST.VIDEO.CAUSAL
    )
    flows = {"zero": lambda request, flow: torch.zeros_like(flow), "true": videos.true_flow(model)}
    with replaced_flow(model, flows[variant]) if variant in flows else nullcontext():
        results = VideoTrainer.test(cfg, model)
    model.temporal.window = window
    model.eval().reset()
    return results["bbox"]


if __name__ == "__main__":
    main()
