"""Test sampler that never cuts a video in two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from detectron2.utils import comm
from torch.utils.data import Sampler


def _group_videos(dataset_dicts: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Positions of each video's frames in frame order; a still is a video of its own."""
    videos: dict[Any, list[int]] = {}
    for position, sample in enumerate(dataset_dicts):
        # A position cannot be mistaken for a video id, which is a string.
        videos.setdefault(sample.get("video_id", position), []).append(position)
    for key, positions in videos.items():
        if len(positions) == 1:
            continue
        positions.sort(key=lambda p: dataset_dicts[p]["frame_index"])
        for a, b in pairwise(positions):
            if dataset_dicts[a]["frame_index"] == dataset_dicts[b]["frame_index"]:
                raise ValueError(
                    f"frame {dataset_dicts[a]['frame_index']} of video {key!r} is listed twice "
                    f"(entries {a} and {b} of the dataset)"
                )
    return list(videos.values())


def _partition(lengths: Sequence[int], world_size: int) -> list[list[int]]:
    """Give each video to the least loaded rank, longest video first; ties go to the lower one."""
    load = [0] * world_size
    parts: list[list[int]] = [[] for _ in range(world_size)]
    for video in sorted(range(len(lengths)), key=lambda v: (-lengths[v], v)):
        rank = min(range(world_size), key=lambda r: (load[r], r))
        load[rank] += lengths[video]
        parts[rank].append(video)
    return [sorted(part) for part in parts]


class VideoInferenceSampler(Sampler[int]):
    """Indices of whole videos for this rank, the frames of a video in order.

    Pass it to Detectron2's `build_detection_test_loader(..., sampler=...)`. All ranks together
    give every index exactly once; a rank may get none when there are fewer videos than ranks.

    Args:
        dataset_dicts: the very list that the loader is built from.
        rank: rank to sample for; that of this process if left out.
        world_size: number of ranks; that of this job if left out.
    """

    def __init__(
        self,
        dataset_dicts: Sequence[Mapping[str, Any]],
        *,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        rank = comm.get_rank() if rank is None else rank
        world_size = comm.get_world_size() if world_size is None else world_size
        if world_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} does not exist in a world of {world_size}")
        videos = _group_videos(dataset_dicts)
        mine = _partition([len(video) for video in videos], world_size)[rank]
        self._indices = [position for video in mine for position in videos[video]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
