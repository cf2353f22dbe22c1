"""Post-processing of a dataset's detections before they are scored, as the config asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from iff_detectron2.postprocessing import SeqNMSOptions, rescore_detections
from iff_detectron2.postprocessing.sequence_nms import VARIANTS, load_compiled
from iff_detectron2.structures import Detections

# Where meta-architectures keep the threshold of their NMS; the others have ROI heads.
_NMS_KEYS = {"RetinaNet": "MODEL.RETINANET.NMS_THRESH_TEST"}
_ROI_HEADS_NMS_KEY = "MODEL.ROI_HEADS.NMS_THRESH_TEST"


class SeqNMSPostprocess:
    """Seq-NMS over the videos of a dataset, for `VIDEvaluator`."""

    def __init__(self, options: SeqNMSOptions, num_workers: int | None = None) -> None:
        """Keep the settings.

        Args:
            options: of Seq-NMS.
            num_workers: threads; None for all usable cores.
        """
        self.options = options
        self.num_workers = num_workers

    def __call__(
        self, detections: Detections, frames: Sequence[dict[str, Any]], progress: bool = False
    ) -> Detections:
        """Rescore the detections of a dataset.

        Args:
            detections: with frame rows.
            frames: dataset dicts, one per frame row, with `image_id`, `video_id`, `frame_index`.
            progress: show a progress bar.

        Returns:
            Those that stay, in the same order, with `track_ids`.

        Raises:
            ValueError: a score outside [0, 1], naming the image_id.
        """
        return rescore_detections(
            detections,
            self.options,
            frames=frames,
            describe=lambda row: f"image_id {frames[detections.frames[row]]['image_id']!r}",
            num_workers=self.num_workers,
            progress=progress,
        )[0]


def build_postprocess(cfg: CfgNode) -> SeqNMSPostprocess | None:
    """Make the post-processing that TEST.VIDEO.POSTPROCESS names, None if it is empty.

    Raises:
        ValueError: as `check_postprocess`.
        ImportError: if numba is missing.
    """
    check_postprocess(cfg)
    if not cfg.TEST.VIDEO.POSTPROCESS:
        return None
    load_compiled()
    return SeqNMSPostprocess(SeqNMSOptions(cfg.TEST.VIDEO.POSTPROCESS))


def check_postprocess(cfg: CfgNode) -> None:
    """Look whether TEST.VIDEO.POSTPROCESS goes with the rest of a config.

    Raises:
        ValueError: for an unknown name, or if plain Seq-NMS would get boxes that per-frame NMS or a
            limit a frame has thinned out already (vid_protocol, Seq-NMS).
    """
    name = cfg.TEST.VIDEO.POSTPROCESS
    if name and name not in VARIANTS:
        raise ValueError(
            f"TEST.VIDEO.POSTPROCESS is {name!r}; choose one of {', '.join(VARIANTS)}, or leave it "
            "empty"
        )
    if name == "seq_nms":
        key = _NMS_KEYS.get(cfg.MODEL.META_ARCHITECTURE.removeprefix("Video"), _ROI_HEADS_NMS_KEY)
        wrong = []
        if _value(cfg, key) < 1.0:
            wrong.append(f"{key} is {_value(cfg, key)}, set it to 1.0")
        if cfg.TEST.DETECTIONS_PER_IMAGE >= 0:
            limit = cfg.TEST.DETECTIONS_PER_IMAGE
            wrong.append(f"TEST.DETECTIONS_PER_IMAGE is {limit}, set it to -1")
        if wrong:
            raise ValueError(
                "TEST.VIDEO.POSTPROCESS seq_nms wants all boxes of a frame, without NMS and "
                f"without a limit: {'; '.join(wrong)}. Or choose seq_nms_plus, which does NMS first"
            )


def _value(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
