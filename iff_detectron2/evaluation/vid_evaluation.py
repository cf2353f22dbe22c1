"""Detectron2 evaluator of video object detection."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from iff_detectron2.predictions import write_predictions_json, write_predictions_text
from iff_detectron2.structures import Detections

from .evaluation_dataset import EvaluationDataset
from .protocols import evaluate_arrays
from .tables import format_result, save_result

FRAMES_WORTH_A_PROGRESS_BAR = 10_000

# (detections, frames, progress) -> those that stay
Postprocess = Callable[[Detections, Sequence[dict[str, Any]], bool], Detections]


class VIDEvaluator(DatasetEvaluator):
    """Mean average precision of video object detection, by the protocol of choice.

    Works on every dataset registered with Detectron2. Motion ranges (`fgfa`) need annotations
    with `track_id` in frames with `video_id` and `frame_index`; without them they are reported
    as unavailable.
    """

    def __init__(
        self,
        dataset_name: str,
        protocol: str = "fgfa",
        output_dir: str | Path | None = None,
        *,
        area_ranges: bool = False,
        motion_iou_file: str | Path | None = None,
        allow_partial: bool = False,
        distributed: bool = True,
        task: str = "bbox",
        postprocess: Postprocess | None = None,
    ) -> None:
        """Read the ground truth, so that an unusable dataset fails before inference.

        Args:
            dataset_name: a registered dataset with `thing_classes` in its metadata.
            protocol: "fgfa" (the paper's), "devkit" or "coco".
            output_dir: folder for `predictions.json` (COCO-style results with video and frame),
                `predictions.txt` (FGFA's form), `results.json` and `results.txt`. With
                `postprocess` these hold what it returns, and `predictions_raw.json` what the
                model found.
            area_ranges: also report boxes of 0-50^2, 50^2-150^2 and over 150^2 pixels.
            motion_iou_file: FGFA's .mat for ImageNet VID val; else motion IoU comes from tracks.
            allow_partial: count frames that were not processed as frames without detections,
                instead of raising.
            distributed: gather the predictions of all processes; False evaluates this process's.
            task: key of the results. `DatasetEvaluators` refuses two evaluators with the same
                key, so beside `COCOEvaluator`, which takes "bbox", give another.
            postprocess: rescores the detections of whole videos before they are scored, once they
                are gathered from all processes; see `engine.build_postprocess`.

        Raises:
            ValueError: for an unknown protocol, or an unusable dataset, naming the image_id.
        """
        if area_ranges and protocol == "coco":
            raise ValueError("Protocol 'coco' has its own sizes; it takes no area_ranges")
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._protocol = protocol
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._area_ranges = area_ranges
        self._allow_partial = allow_partial
        self._distributed = distributed
        self._task = task

        dataset = EvaluationDataset.load(dataset_name, protocol, motion_iou_file)
        self._ground_truth = dataset.ground_truth
        self._category_ids = dataset.category_ids
        self._frames = dataset.frames
        self._postprocess = postprocess
        if postprocess is not None:
            self._check_videos()
        self._row_of_image = {frame["image_id"]: row for row, frame in enumerate(self._frames)}
        self._processed: list[int] = []
        self._found: dict[int, Detections] = {}

    def reset(self) -> None:
        """Forget all predictions."""
        self._processed, self._found = [], {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the detections of some frames as arrays.

        Args:
            inputs: mapped samples with `image_id`.
            outputs: one dict a sample, whose `instances` has `pred_boxes` (XYXY in pixels of the
                original image), `scores` and `pred_classes`.

        Raises:
            ValueError: if a frame is not of the dataset, or a detection cannot be scored.
        """
        for sample, output in zip(inputs, outputs, strict=True):
            image_id = sample["image_id"]
            if image_id not in self._row_of_image:
                raise ValueError(
                    f"image_id {image_id!r} is not in dataset {self._dataset_name!r}; the test "
                    "loader must be of the dataset that is evaluated"
                )
            row = self._row_of_image[image_id]
            found = Detections.from_instances([(row, output["instances"])])
            bad = found.find_bad(len(self._ground_truth.class_names))
            if bad is not None:
                raise ValueError(f"image_id {image_id!r}: detection {bad[0]}: {bad[1]}")
            self._processed.append(row)
            self._found.setdefault(row, found)

    def evaluate(self) -> OrderedDict[str, OrderedDict[str, float]] | None:
        """Score what all processes have seen, save it, and log the table.

        Returns:
            {task: {metric: percent}} in the main process, None in the others. Metrics are
            `mAP50`, `AP50-<class>`, for `fgfa` also `mAP50-slow`, `-medium`, `-fast`, for `coco`
            also COCO's own; nan for what has no positives or is unavailable.

        Raises:
            ValueError: if frames of the dataset were not processed, unless `allow_partial`.
        """
        found = Detections.concatenate(self._found.values())
        mine = (np.array(self._processed, dtype=np.int64), found)
        gathered = [mine]
        if self._distributed:
            gathered = comm.gather(mine, dst=0)
            if not comm.is_main_process():
                return None
        detections = self._merge(gathered)
        progress = len(self._frames) >= FRAMES_WORTH_A_PROGRESS_BAR
        raw = None if self._output_dir is None else self._output_dir / "predictions_raw.json"
        if self._postprocess is not None:
            if raw is not None:
                write_predictions_json(raw, detections, self._frames, self._category_ids, progress)
            detections = self._postprocess(detections, self._frames, progress)
        elif raw is not None:
            raw.unlink(missing_ok=True)  # an earlier run's would not fit the new predictions
        if self._output_dir is not None:
            # Before scoring: what took longest to compute is safe first.
            self._save_predictions(self._output_dir, detections, progress)
        result = evaluate_arrays(
            self._ground_truth,
            detections,
            self._protocol,
            area_ranges=self._area_ranges,
            progress=progress,
        )
        table = format_result(result, self._dataset_name)
        self._logger.info("Evaluation results for %s:\n%s", self._task, table)
        if self._output_dir is not None:
            save_result(result, self._output_dir, self._dataset_name)
        return OrderedDict({self._task: result.metrics()})

    def _merge(self, gathered: Sequence[tuple[np.ndarray, Detections]]) -> Detections:
        """Join the processes' predictions in the order of the dataset, each frame once.

        The order makes the result the same for any number of processes, ties included.
        """
        seen = np.zeros(len(self._frames), dtype=bool)
        parts = []
        for rows, detections in gathered:
            parts.append(detections[~seen[detections.frames]])
            seen[rows] = True
        again = sum(len(rows) for rows, _ in gathered) - int(seen.sum())
        if again:
            self._logger.info(
                "%d frames were processed more than once; the first result of each counts", again
            )
        self._check_complete(np.flatnonzero(seen))
        return Detections.concatenate(parts).sorted_by_frame()

    def _check_complete(self, processed: np.ndarray) -> None:
        missing = np.setdiff1d(np.arange(len(self._frames)), processed, assume_unique=True)
        if not missing.size:
            return
        message = (
            f"{missing.size} of {len(self._frames)} frames of {self._dataset_name!r} were not "
            f"processed, first image_id {self._frames[missing[0]]['image_id']!r}"
        )
        if not self._allow_partial:
            raise ValueError(
                f"{message}; evaluate the whole dataset, or pass allow_partial=True to count "
                "them as frames without detections"
            )
        self._logger.warning("%s; they count as frames without detections.", message)

    def _check_videos(self) -> None:
        for frame in self._frames:
            if frame.get("video_id") is None or frame.get("frame_index") is None:
                raise ValueError(
                    f"Dataset {self._dataset_name!r}, image_id {frame['image_id']!r}: "
                    "post-processing over videos needs video_id and frame_index of every frame"
                )

    def _save_predictions(self, folder: Path, detections: Detections, progress: bool) -> None:
        path = folder / "predictions.json"
        write_predictions_json(path, detections, self._frames, self._category_ids, progress)
        write_predictions_text(folder / "predictions.txt", detections, self._frames, progress)
