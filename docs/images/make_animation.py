"""Make docs/images/demo.webp, the picture at the head of the README.

    python docs/images/make_animation.py --weights output/demo/training/model_final.pth

`make demo` leaves the weights and the data. For each frame of some test videos the picture shows
one of its reference frames, the feature flow between the two, and what is detected in the frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from iff_detectron2.data import read_frame
from iff_detectron2.engine import VideoPredictor, load_config
from iff_detectron2.structures import Detections
from iff_detectron2.visualization.drawing import draw_boxes, draw_detections
from iff_detectron2.visualization.flow_colors import color_wheel_legend, flow_to_color
from iff_detectron2.visualization.image import draw_text, text_size

SCALE = 1.5
GAP = 8
FONT = 15
# A displacement of this many pixels of the frame is drawn in full colour.
FULL_COLOUR = 24.0
LIMIT = 2_000_000


def flow_picture(flow: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw a flow and its colour wheel, uint8 BGR [height, width, 3].

    Args:
        flow: [2, h, w] in pixels of the frame.
        width: of the picture in pixels.
        height: of the picture in pixels.
    """
    picture = flow_to_color(np.stack([cv2.resize(x, (width, height)) for x in flow]), FULL_COLOUR)
    wheel = color_wheel_legend(height // 5)
    picture[4 : 4 + len(wheel), -4 - len(wheel) : -4] = wheel
    return picture


def side_by_side(pictures: Sequence[np.ndarray], heads: Sequence[str]) -> np.ndarray:
    """Lay pictures of one size out in a row, each below its head, uint8 BGR."""
    height, width = pictures[0].shape[:2]
    top = text_size("", FONT)[1] + GAP
    sheet = np.full((top + height, len(pictures) * (width + GAP) - GAP, 3), 255, np.uint8)
    for position, (picture, head) in enumerate(zip(pictures, heads, strict=True)):
        left = position * (width + GAP)
        sheet[top:, left : left + width] = picture
        indent = (width - text_size(head, FONT)[0]) // 2
        draw_text(sheet, head, left + indent, GAP // 2, FONT, (60, 60, 60))
    return sheet


class LastFlow:
    """The flows that the one aggregator of a stream has found last, by offset, in cells.

    Args:
        model: a video detector.
    """

    def __init__(self, model: Any) -> None:
        self.by_offset: dict[int, np.ndarray] = {}
        (aggregator,) = model.temporal.aggregators.values()
        aggregator.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, module: Any, args: Any, kwargs: dict[str, Any], aggregation: Any) -> None:
        flow = aggregation.flow.float().cpu().numpy()
        self.by_offset = dict(zip(kwargs["offsets"], flow, strict=True))


def frames_of_animation(args: argparse.Namespace) -> Iterator[np.ndarray]:
    """Yield the pictures of the animation, uint8 BGR."""
    cfg = load_config(args.config_file, ["MODEL.WEIGHTS", args.weights])
    predictor = VideoPredictor(cfg)
    last = LastFlow(predictor.model)
    dataset = cfg.DATASETS.TEST[0]
    names = MetadataCatalog.get(dataset).thing_classes
    videos: dict[str, list[dict]] = {}
    for record in DatasetCatalog.get(dataset):
        videos.setdefault(record["video_id"], []).append(record)
    side = "later" if args.offset > 0 else "earlier"
    heads = (
        f"reference frame, {abs(args.offset)} frames {side}",
        "feature flow",
        "frame, with what is detected",
    )
    for video in [list(videos.values())[number] for number in args.videos]:
        frames = [read_frame(record["file_name"], "BGR") for record in video]
        predictor.reset()
        for frame in frames:
            # The frames whose window reaches beyond the end would come together: left out.
            for index, instances in predictor.push(frame):
                flow = last.by_offset.get(args.offset)
                if flow is None or not 0 <= index + args.offset < len(frames):
                    continue
                found = draw_detections(
                    frames[index],
                    Detections.from_instances([(0, instances.to("cpu"))]),
                    names,
                    score_threshold=args.score,
                    scale=SCALE,
                )
                height, width = found.shape[:2]
                in_pixels = flow * (frames[index].shape[1] / flow.shape[2])
                other = draw_boxes(
                    frames[index + args.offset], np.empty((0, 4)), [], [], scale=SCALE
                )
                pictures = [other, flow_picture(in_pixels, width, height), found]
                yield side_by_side(pictures, heads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config-file", default="MovingShapes/iff_net_C")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--videos", type=int, nargs="+", default=[0, 2], help="test videos, from 0")
    parser.add_argument("--offset", type=int, default=-3, help="of the reference frame, in frames")
    parser.add_argument("--score", type=float, default=0.5, help="least score that is drawn")
    parser.add_argument("--quality", type=int, default=45)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("demo.webp"))
    args = parser.parse_args()
    pictures = [Image.fromarray(picture[..., ::-1]) for picture in frames_of_animation(args)]
    pictures[0].save(
        args.output,
        save_all=True,
        append_images=pictures[1:],
        duration=120,
        loop=0,
        quality=args.quality,
        method=4,
    )
    size = args.output.stat().st_size
    print(f"{args.output}: {len(pictures)} frames, {size / 1e6:.2f} MB")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT / 1e6:.0f} MB: choose fewer videos or less --quality")


if __name__ == "__main__":
    main()
