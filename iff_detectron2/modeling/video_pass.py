"""Plans a pass of a video detector: which frames its backbone must see, and what for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from iff_detectron2.layers.pixels import join_samples
from iff_detectron2.structures import TemporalWindow

from .codes import BatchCodes, Codes, CodesOfFrames, FrameCodes
from .frame_memory import FrameMemory, WeightsMark
from .track_motion import Tracks


@dataclass
class FusionRequest:
    """One key frame to be detected in.

    Attributes:
        key: frame index of the key frame.
        refs: frame indices of its reference frames; a frame may stand there more than once.
        new: frame indices of those images of the pass that belong to this request, in order.
        memory: that of the stream; None where the sample carries its whole window.
        tracks: in training, boxes by track id of the key frame and then of each of `refs`; empty
            where they are not known.
    """

    key: int
    refs: list[int]
    new: list[int]
    memory: FrameMemory | None = None
    tracks: list[Tracks] = field(default_factory=list)


@dataclass
class VideoPass:
    """What is to be done for one batch of key frames.

    Attributes:
        requests: one for each sample.
        samples: a sample for each image that the backbone must see, possibly none: at the end of
            a video a window brings no new frame.
        key_frames_only: these images are the key frames of the batch, in its order.
        fused: the maps of the key frames have been made.
    """

    requests: list[FusionRequest] = field(default_factory=list)
    samples: list[dict] = field(default_factory=list)
    key_frames_only: bool = True
    fused: bool = False


def plan_pass(
    batched_inputs: Sequence[dict],
    window: TemporalWindow,
    memories: Sequence[FrameMemory] | None,
    mark: Callable[[], WeightsMark],
) -> VideoPass:
    """Plan the pass of a batch.

    Args:
        batched_inputs: samples of `VIDDatasetMapper`. A sample without `ref_images` is a still.
        window: that of a stream.
        memories: that of the stream of each sample; None if each sample carries its whole window.
        mark: notes the weights of the model.

    Raises:
        ValueError: if a stream comes several frames at a time or not in order, if reference frames
            differ from their key frame in size, or if the key frame alone was transformed.
    """
    if memories is not None and any("video_id" in sample for sample in batched_inputs):
        _check_streams(len(batched_inputs), memories)
    plan = VideoPass()
    for row, sample in enumerate(batched_inputs):
        frames = _frames_by_offset(sample)
        if memories is not None and "video_id" in sample:
            request, new = _plan_stream(sample, frames, window, memories[row], mark)
        else:
            refs = list(sample.get("ref_offsets", []))
            tracks = sample.get("tracks", [])
            request, new = FusionRequest(0, refs, list(frames), tracks=tracks), frames
        plan.requests.append(request)
        # Whatever else a detector looks for in a sample before its backbone is there, too.
        plan.samples += [{**sample, "image": image} for image in new.values()]
        plan.key_frames_only &= request.new == [request.key]
    return plan


def _check_streams(count: int, memories: Sequence[FrameMemory]) -> None:
    if len(memories) != count or len({*map(id, memories)}) < count:
        raise ValueError(
            f"a stream is tested one frame at a time, got {count} at once; use a test batch size "
            "of 1 or TEST.VIDEO.STREAMING False"
        )


def _frames_by_offset(sample: dict) -> dict[int, Tensor]:
    """Return the images of a sample by their offset from the key frame, the key frame last."""
    refs = sample.get("ref_images", [])
    offsets = sample.get("ref_offsets", [])
    if len(refs) != len(offsets):
        raise ValueError(f"a sample has {len(refs)} ref_images, but {len(offsets)} ref_offsets")
    if "transforms" in sample and (refs or "video_id" in sample):
        raise ValueError(
            "test-time augmentation transformed the key frame and not its reference frames; use it "
            "on samples without ref_images and video_id"
        )
    size = sample["image"].shape[-2:]
    for offset, image in zip(offsets, refs, strict=True):
        if image.shape[-2:] != size:
            raise ValueError(
                f"the reference frame at offset {offset} is {tuple(image.shape[-2:])} pixels and "
                f"its key frame {tuple(size)} (height, width); transform all frames of a sample "
                "alike"
            )
    frames = dict(zip(offsets, refs, strict=True))
    # An offset of 0 is the key frame repeated: it needs no second pass.
    frames.pop(0, None)
    return {**frames, 0: sample["image"]}


def _plan_stream(
    sample: dict,
    frames: dict[int, Tensor],
    window: TemporalWindow,
    memory: FrameMemory,
    mark: Callable[[], WeightsMark],
) -> tuple[FusionRequest, dict[int, Tensor]]:
    """Plan the next frame of a stream: its request, and those of its frames not yet seen."""
    t, length = sample["frame_index"], sample["video_length"]
    start_stream(memory, sample, memory.last_key, mark)
    refs = window.frames(t, length)
    memory.forget_before(min((t, *refs)))
    new = {t + o: image for o, image in frames.items() if t + o not in memory}
    missing = sorted({i for i in refs if i not in memory and i not in new})
    if missing:
        raise ValueError(
            f"frame {t} of video {sample['video_id']!r} needs frames {missing}, which are "
            "neither in the frame memory nor in the sample: feed the frames of a video in "
            "order (VideoInferenceSampler) or set TEST.VIDEO.STREAMING False"
        )
    return FusionRequest(t, refs, list(new), memory), new


def start_stream(
    memory: FrameMemory, sample: dict, last: int | None, mark: Callable[[], WeightsMark]
) -> None:
    """Make a memory ready for a frame: it forgets another video, and this one if it starts again.

    Args:
        memory: that of the stream.
        sample: the frame.
        last: the frame that must lie before it if the video goes on.
        mark: notes the weights of the model.
    """
    again = last is not None and sample["frame_index"] <= last
    if again and memory.video_id == sample["video_id"]:
        memory.clear()
    memory.start(sample["video_id"], tuple(sample["image"].shape[-2:]), mark)


def requests_with_codes(
    plan: VideoPass, codes: FrameCodes
) -> Iterator[tuple[FusionRequest, CodesOfFrames]]:
    """Keep the new frames of streams, and yield each request and where the codes of its frames are.

    A backbone may make several maps of each kind per image, those of its first branch for all
    images, then those of its second, and so on. Each branch is fused by itself: it has all requests
    again, in the order in which their maps follow each other.

    Args:
        plan: the pass.
        codes: those of its images, [branches * N, ...]; none if it has no images.
    """
    count = len(plan.samples)
    rows: list[dict[int, int]] = []
    start = 0
    for request in plan.requests:
        rows.append({frame: start + i for i, frame in enumerate(request.new)})
        start += len(request.new)
        if request.memory is not None:
            for frame, row in rows[-1].items():
                request.memory.add(frame, codes_of_image(codes, row, count))
    for branch in range(_count_branches(plan, codes)):
        for request, own in zip(plan.requests, rows, strict=True):
            if request.memory is not None:
                yield request, request.memory.branch(branch)
            else:
                first = branch * count
                yield request, BatchCodes(codes, {frame: first + row for frame, row in own.items()})


def _count_branches(plan: VideoPass, codes: FrameCodes) -> int:
    for level in codes.values():
        return len(level["feature"]) // len(plan.samples)
    memory = plan.requests[0].memory
    return 1 if memory is None else memory.branches


def codes_of_image(codes: FrameCodes, row: int, count: int) -> FrameCodes:
    """Return the codes of one image, a row for each branch.

    Args:
        codes: those of a batch of images, branch by branch, [branches * N, ...].
        row: of the image in the batch.
        count: images of the batch, N.
    """
    return {
        level: {
            name: join_samples([x[i : i + 1] for i in range(row, len(x), count)])
            for name, x in level_codes.items()
        }
        for level, level_codes in codes.items()
    }


def chunks_of_refs(
    request: FusionRequest,
    frames: CodesOfFrames,
    level: str,
    key: Codes,
    flow: Tensor | None,
    size: int,
) -> Iterator[tuple[Codes, list[int], Tensor | None]]:
    """Yield codes, offsets and carried flow of `size` reference frames at a time, at least once.

    Args:
        request: key frame and reference frames.
        frames: codes of the frames at hand.
        level: name of the feature map.
        key: codes of the key frame.
        flow: carried from another map, [T, 2, H, W]; None if this map finds its own.
        size: reference frames at a time.
    """
    for start in range(0, max(len(request.refs), 1), size):
        part = slice(start, start + size)
        indices = request.refs[part]
        refs = frames.refs(indices, level) if indices else {n: x[:0] for n, x in key.items()}
        offsets = [index - request.key for index in indices]
        yield refs, offsets, None if flow is None else flow[part]
