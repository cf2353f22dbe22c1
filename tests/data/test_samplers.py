from __future__ import annotations

import pytest

from iff_detectron2.data import VideoInferenceSampler


def _dicts(lengths: list[int], every: int = 1) -> list[dict]:
    return [
        {"video_id": f"v{video}", "frame_index": frame}
        for video, length in enumerate(lengths)
        for frame in range(0, length, every)
    ]


def _parts(dicts: list[dict], world_size: int) -> list[list[dict]]:
    samplers = [
        VideoInferenceSampler(dicts, rank=r, world_size=world_size) for r in range(world_size)
    ]
    for sampler in samplers:
        assert len(sampler) == len(list(sampler))
    return [[dicts[i] for i in sampler] for sampler in samplers]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("lengths", [[5, 5, 5], [1], [3, 1], [11, 2, 7, 7, 1], list(range(1, 30))])
def test_whole_videos_in_order_exactly_once(lengths: list[int], world_size: int) -> None:
    dicts = _dicts(lengths)
    parts = _parts(dicts, world_size)
    owners: dict[str, set[int]] = {}
    for rank, part in enumerate(parts):
        for sample in part:
            owners.setdefault(sample["video_id"], set()).add(rank)
        # A video's frames are neighbours in the order, and ascend by one.
        expected = [
            {"video_id": video, "frame_index": frame}
            for video in dict.fromkeys(sample["video_id"] for sample in part)
            for frame in range(lengths[int(video[1:])])
        ]
        assert part == expected
    assert all(len(ranks) == 1 for ranks in owners.values())
    assert sum(map(len, parts)) == len(dicts)


def test_longest_video_first() -> None:
    # 7 -> rank 0, 5 -> rank 1, 4 -> rank 1 (5 < 7), 3 -> rank 0 (7 < 9), 1 -> rank 1 (9 < 10).
    parts = _parts(_dicts([3, 4, 1, 7, 5]), 2)
    assert [list(dict.fromkeys(s["video_id"] for s in part)) for part in parts] == [
        ["v0", "v3"],
        ["v1", "v2", "v4"],
    ]


def test_ties_go_to_the_lower_rank_and_the_earlier_video() -> None:
    parts = _parts(_dicts([2, 2, 2]), 2)
    assert [[s["video_id"] for s in part] for part in parts] == [
        ["v0", "v0", "v2", "v2"],
        ["v1", "v1"],
    ]


def test_ranks_may_be_empty() -> None:
    assert [len(part) for part in _parts(_dicts([4]), 3)] == [4, 0, 0]


def test_interleaved_and_shuffled_videos_are_put_together() -> None:
    dicts = [
        {"video_id": "a", "frame_index": 2},
        {"video_id": "b", "frame_index": 0},
        {"video_id": "a", "frame_index": 0},
        {"video_id": "b", "frame_index": 5},
    ]
    assert list(VideoInferenceSampler(dicts, rank=0, world_size=1)) == [2, 0, 1, 3]


def test_stills_are_videos_of_their_own() -> None:
    dicts = [{"file_name": str(k)} for k in range(5)]
    parts = _parts(dicts, 2)
    assert [[d["file_name"] for d in part] for part in parts] == [["0", "2", "4"], ["1", "3"]]


def test_rank_of_this_process_by_default() -> None:
    assert list(VideoInferenceSampler(_dicts([3, 2]))) == [0, 1, 2, 3, 4]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="rank 2 does not exist in a world of 2"):
        VideoInferenceSampler(_dicts([2]), rank=2, world_size=2)
    with pytest.raises(
        ValueError, match=r"frame 1 of video 'v0' is listed twice \(entries 1 and 2"
    ):
        VideoInferenceSampler([*_dicts([2]), {"video_id": "v0", "frame_index": 1}])
