"""From a dataset dict to a clip: the key frame and its neighbours, transformed alike."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from iff_detectron2.structures import TemporalWindow
from iff_detectron2.video.frames import read_frame

from .clip_transforms import ClipTransforms
from .frame_errors import MissingFrame, UnreadableFrame
from .network_input import check_image_format, image_to_tensor
from .video_index import build_video_index, listed_frames

ReadyImage = tuple[torch.Tensor, tuple[int, ...]]
"""The network's input of a frame, [C, h, w], and the shape of the frame itself, (H, W, C)."""


def draw_refs(frame_index: int, video_length: int, num_refs: int, max_offset: int) -> list[int]:
    """Draw training neighbours from [t - max_offset, t + max_offset] without t, inside the video.

    Without replacement where there are enough frames, with replacement where there are fewer; a
    frame that has no other frame near it is its own neighbour. Draws from numpy's global
    generator, which Detectron2 seeds in every loader worker.

    Args:
        frame_index: the key frame t, from 0.
        video_length: frames of the video.
        num_refs: reference frames to draw.
        max_offset: how far from t they may lie, in frames.

    Returns:
        `num_refs` frame indices in the order drawn.
    """
    first = max(frame_index - max_offset, 0)
    last = min(frame_index + max_offset, video_length - 1)
    candidates = [frame for frame in range(first, last + 1) if frame != frame_index]
    if not candidates:
        return [frame_index] * num_refs
    drawn = np.random.choice(candidates, num_refs, replace=len(candidates) < num_refs)  # noqa: NPY002
    return [int(frame) for frame in drawn]


def new_window_frames(
    window: TemporalWindow, frame_index: int, earlier: Sequence[int], video_length: int
) -> list[int]:
    """Frames of a window that a stream has not seen yet, ascending, the key frame left out.

    Args:
        window: the window.
        frame_index: key frame, counted from 0.
        earlier: key frames before it in the same video, at least all that are less than the span of
            the window away.
        video_length: frames in the video.
    """
    needed = set(window.frames(frame_index, video_length)) - {frame_index}
    for key in earlier:
        needed -= {key, *window.frames(key, video_length)}
    return sorted(needed)


def _check_size(
    ref_file: str, ref_shape: tuple[int, ...], file_name: str, shape: tuple[int, ...]
) -> None:
    if ref_shape != shape:
        raise ValueError(
            f"{ref_file} is {ref_shape[1]}x{ref_shape[0]} pixels and its key frame {file_name} "
            f"{shape[1]}x{shape[0]}; the frames of a video must have one size"
        )


def boxes_by_track(annotations: Iterable[Mapping[str, Any]]) -> dict[int | str, Sequence[float]]:
    """Return x1, y1, x2, y2 of the boxes of a frame by track id; those without a track, and crowds,
    are left out."""
    return {
        a["track_id"]: BoxMode.convert(list(a["bbox"]), a["bbox_mode"], BoxMode.XYXY_ABS)
        for a in annotations
        if a.get("track_id") is not None and not a.get("iscrowd", 0)
    }


class VIDDatasetMapper(DatasetMapper):
    """Detectron2's mapper for key frames with neighbours.

    A mapped sample is Detectron2's plus `ref_images`, uint8 tensors (C, H, W) of the size of
    `image`, and `ref_offsets`, for each the distance in frames to the key frame. What the
    augmentations draw for the key frame holds for all (`ClipTransforms`).

    - Training: `num_refs` drawn neighbours. A still, a dict without `video_id`, is its own
      neighbour with offset 0.
    - Testing, `streaming` false: one entry per offset of the window, end frames repeated.
    - Testing, `streaming` true: only what no window of a listed frame before it in the same video
      held, each frame once; the model remembers the rest.

    Args:
        is_train: training or testing.
        augmentations: augmentations of the clip.
        image_format: format of `detectron2.data.detection_utils.read_image`.
        frame_index: files of all frames of the videos.
        num_refs: number of neighbours in training.
        max_offset: largest distance of a training neighbour in frames.
        window: window of testing.
        streaming: see above.
        listed_frames: listed frames of each test video, see `listed_frames()`; needed when
            streaming.
        dataset_names: for error messages.
        annotations_of: annotations of the listed frames by file name; with them training samples
            have `tracks`, for the key frame and each reference frame its boxes by track id,
            float32 x1, y1, x2, y2 in pixels of `image`. A frame that is not listed has none.
        **kwargs: passed to Detectron2's `DatasetMapper`.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        frame_index: Mapping[str, Sequence[str]],
        num_refs: int = 2,
        max_offset: int = 10,
        window: TemporalWindow | None = None,
        streaming: bool = False,
        listed_frames: Mapping[str, Sequence[int]] | None = None,
        dataset_names: Sequence[str] = (),
        annotations_of: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(is_train, augmentations=augmentations, image_format=image_format, **kwargs)
        if self.proposal_topk is not None:
            raise ValueError("MODEL.LOAD_PROPOSALS is not supported for video; set it to False")
        if num_refs < 0 or max_offset < 0:
            raise ValueError(
                "INPUT.VIDEO.NUM_REFS and INPUT.VIDEO.MAX_OFFSET must not be negative, "
                f"got {num_refs} and {max_offset}"
            )
        if streaming and not is_train and listed_frames is None:
            raise ValueError(
                "streaming needs the listed frames of each video; pass "
                "listed_frames=listed_frames(dataset_dicts)"
            )
        self.frame_index = frame_index
        self.num_refs = num_refs
        self.max_offset = max_offset
        self.window = TemporalWindow() if window is None else window
        self.streaming = streaming
        self.listed_frames = listed_frames
        self.dataset_names = tuple(dataset_names)
        self.annotations_of = annotations_of

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool = True, dataset_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Arguments from `INPUT.VIDEO`, `TEST.VIDEO` and Detectron2's own keys.

        Args:
            cfg: config.
            is_train: training or testing.
            dataset_names: datasets whose dicts will be mapped; `DATASETS.TRAIN` or `TEST` if
                left out. Name the one test set where several hold the same video.
        """
        if dataset_names is None:
            dataset_names = cfg.DATASETS.TRAIN if is_train else cfg.DATASETS.TEST
        elif isinstance(dataset_names, str):
            dataset_names = (dataset_names,)
        check_image_format(cfg)
        test = cfg.TEST.VIDEO
        ret = super().from_config(cfg, is_train)
        ret.update(
            frame_index=build_video_index(dataset_names),
            num_refs=cfg.INPUT.VIDEO.NUM_REFS,
            max_offset=cfg.INPUT.VIDEO.MAX_OFFSET,
            window=TemporalWindow.from_config(cfg),
            streaming=test.STREAMING,
            dataset_names=dataset_names,
        )
        if is_train and cfg.INPUT.VIDEO.TRACKS:
            ret["annotations_of"] = {
                sample["file_name"]: sample["annotations"]
                for name in dataset_names
                for sample in DatasetCatalog.get(name)
                if "annotations" in sample
            }
        if test.STREAMING and not is_train:
            ret["listed_frames"] = listed_frames(
                sample for name in dataset_names for sample in DatasetCatalog.get(name)
            )
        return ret

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map one dataset dict, which is left as it is.

        Raises:
            FileNotFoundError: a frame is missing.
            OSError: a frame cannot be decoded.
            ValueError: a frame has another size than its annotation or its key frame, or the dict
                and the frame index disagree.
        """
        sample = copy.deepcopy(dataset_dict)
        file_name = sample["file_name"]
        key = self._read(file_name)
        utils.check_image_size(sample, key)
        ref_files, ref_offsets = self.refs(sample)

        sem_seg_file = sample.pop("sem_seg_file_name", None) if self.is_train else None
        sem_seg = None if sem_seg_file is None else self._read(sem_seg_file, labels=True)
        clip = T.AugInput(key, sem_seg=sem_seg)
        transforms = ClipTransforms(self.augmentations, clip)

        images = {file_name: image_to_tensor(clip.image)}
        for ref_file in ref_files:
            if ref_file not in images:
                ref = self._read(ref_file)
                _check_size(ref_file, ref.shape, file_name, key.shape)
                images[ref_file] = image_to_tensor(transforms.apply(ref))
        sample["image"] = images[file_name]
        sample["ref_images"] = [images[ref_file] for ref_file in ref_files]
        sample["ref_offsets"] = ref_offsets
        if self.is_train and self.annotations_of is not None:
            sample["tracks"] = [self._tracks(f, transforms.list) for f in (file_name, *ref_files)]

        if clip.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(clip.sem_seg.astype("long"))
        annotations = sample.pop("annotations", None)
        if self.is_train and annotations is not None:
            self._check_fields(annotations, file_name)
            sample["instances"] = self._instances(
                annotations, transforms.list, clip.image.shape[:2]
            )
        return sample

    def read_ready(self, file_name: str) -> ReadyImage:
        """Read a frame of a test and make it the network's input; errors as of a call."""
        image = self._read(file_name)
        clip = T.AugInput(image)
        self.augmentations(clip)
        return image_to_tensor(clip.image), image.shape

    def put_together(
        self, dataset_dict: dict[str, Any], images: Mapping[str, ReadyImage]
    ) -> dict[str, Any]:
        """Map one dataset dict of a test to what a call maps it to, from frames that were read.

        Args:
            dataset_dict: left as it is.
            images: of its key frame and all of `refs`, by file, as `read_ready` gives them.
        """
        sample = copy.deepcopy(dataset_dict)
        file_name = sample["file_name"]
        sample["image"], shape = images[file_name]
        utils.check_image_size(sample, np.broadcast_to(np.uint8(0), shape))
        ref_files, sample["ref_offsets"] = self.refs(sample)
        for ref_file in ref_files:
            _check_size(ref_file, images[ref_file][1], file_name, shape)
        sample["ref_images"] = [images[ref_file][0] for ref_file in ref_files]
        sample.pop("annotations", None)
        return sample

    def _read(self, file_name: str, labels: bool = False) -> np.ndarray:
        """Read an image (H, W, C), or class numbers (H, W); or say which one of which dataset could
        not be read."""
        datasets = ", ".join(self.dataset_names)
        origin = f" of {datasets}" if datasets else ""
        try:
            if labels:
                return utils.read_image(file_name, "L").squeeze(2)
            return read_frame(file_name, self.image_format)
        except FileNotFoundError:
            raise MissingFrame(
                f"the image {file_name}{origin} does not exist; check that the dataset is complete",
                file_name,
            ) from None
        except (OSError, SyntaxError) as error:  # PIL reports some broken headers as SyntaxError
            raise UnreadableFrame(
                f"the image {file_name}{origin} cannot be read ({error}); "
                "replace it by an undamaged copy",
                file_name,
            ) from error

    def refs(self, sample: Mapping[str, Any]) -> tuple[list[str], list[int]]:
        """Return the files of a key frame's reference frames and their distances to it.

        Raises:
            ValueError: the dict and the frame index disagree.
        """
        if "video_id" not in sample:
            if self.is_train:
                count = self.num_refs
            else:
                count = 0 if self.streaming else len(self.window.offsets)
            return [sample["file_name"]] * count, [0] * count
        video_id, t = sample["video_id"], sample["frame_index"]
        frames = self._frames(sample)
        if self.is_train:
            chosen = draw_refs(t, len(frames), self.num_refs, self.max_offset)
        elif self.streaming:
            earlier = self._listed_before(video_id, t)
            chosen = new_window_frames(self.window, t, earlier, len(frames))
        else:
            chosen = self.window.frames(t, len(frames))
        return [frames[frame] for frame in chosen], [frame - t for frame in chosen]

    def _frames(self, sample: Mapping[str, Any]) -> Sequence[str]:
        """Frames of the sample's video, after making sure that the sample is one of them."""
        video_id, t = sample["video_id"], sample["frame_index"]
        if video_id not in self.frame_index:
            raise ValueError(
                f"the video {video_id!r} of {sample['file_name']} is not in the frame index; build "
                "the mapper with the datasets that its samples come from"
            )
        frames = self.frame_index[video_id]
        if not 0 <= t < len(frames) or frames[t] != sample["file_name"]:
            found = frames[t] if 0 <= t < len(frames) else f"outside its {len(frames)} frames"
            raise ValueError(
                f"frame {t} of video {video_id!r} should be {sample['file_name']}, but by the "
                f"frame index it is {found}; frames count from 0"
            )
        return frames

    def _listed_before(self, video_id: str, frame: int) -> Sequence[int]:
        """Return the listed frames before `frame` in its video, as far as their windows meet."""
        listed = (self.listed_frames or {}).get(video_id, ())
        position = bisect_left(listed, frame)
        if position == len(listed) or listed[position] != frame:
            raise ValueError(
                f"frame {frame} of video {video_id!r} is not among the listed frames; build the "
                "mapper with the datasets that its samples come from"
            )
        return listed[bisect_left(listed, frame - self.window.span) : position]

    def _tracks(self, file_name: str, transforms: T.TransformList) -> dict[int | str, torch.Tensor]:
        """Boxes of a frame by track id, after the transforms, not clipped."""
        tracked = boxes_by_track((self.annotations_of or {}).get(file_name, ()))
        if not tracked:
            return {}
        boxes = transforms.apply_box(np.array(list(tracked.values()), dtype=np.float64))
        return {
            track: torch.as_tensor(box, dtype=torch.float32)
            for track, box in zip(tracked, boxes, strict=True)
        }

    def _check_fields(self, annotations: Sequence[Mapping[str, Any]], file_name: str) -> None:
        """Raise ValueError if an annotation lacks what the model learns from."""
        needed = {
            "segmentation": (self.use_instance_mask, "MODEL.MASK_ON"),
            "keypoints": (self.use_keypoint, "MODEL.KEYPOINT_ON"),
        }
        for field, (used, key) in needed.items():
            lacking = sum(field not in a for a in annotations if not a.get("iscrowd", 0))
            if used and lacking:
                raise ValueError(
                    f"{lacking} annotations of {file_name} have no {field!r}, which {key} needs; "
                    "set it to False, or complete or remove them"
                )

    def _instances(
        self, annotations: list[dict[str, Any]], transforms: T.TransformList, size: tuple[int, int]
    ) -> Any:
        """Ground truth of the key frame after the transforms, clipped, without empty boxes."""
        unused = set()
        if not self.use_instance_mask:
            unused.add("segmentation")
        if not self.use_keypoint:
            unused.add("keypoints")
        usable = [
            utils.transform_instance_annotations(
                {field: value for field, value in annotation.items() if field not in unused},
                transforms,
                size,
                keypoint_hflip_indices=self.keypoint_hflip_indices,
            )
            for annotation in annotations
            if not annotation.get("iscrowd", 0)
        ]
        instances = utils.annotations_to_instances(
            usable, size, mask_format=self.instance_mask_format
        )
        if self.recompute_boxes:
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return utils.filter_empty_instances(instances)
