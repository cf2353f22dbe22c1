import copy

import pytest
import torch

from iff_detectron2.modeling import FrameMemory


def codes(value):
    return {"p3": {"feature": torch.full((1, 2, 3, 4), float(value))}}


@pytest.fixture
def memory():
    memory = FrameMemory()
    memory.start("v", (48, 64))
    for frame in range(4):
        memory.add(frame, codes(frame))
    return memory


def test_gather_keeps_order_and_repeats(memory):
    stacked = memory.gather([2, 0, 0])["p3"]["feature"]
    assert stacked[:, 0, 0, 0].tolist() == [2, 0, 0]


def test_keep_only_forgets_the_rest(memory):
    memory.keep_only([1, 3, 9])
    assert [frame in memory for frame in range(4)] == [False, True, False, True]


def test_another_video_starts_empty(memory):
    memory.start("v", (48, 64))
    assert len(memory) == 4
    memory.start("w", (30, 40))
    assert len(memory) == 0


def test_change_of_size_inside_a_video_is_an_error(memory):
    with pytest.raises(ValueError, match="'v' have different sizes"):
        memory.start("v", (48, 65))


def test_copy_is_a_stream_of_its_own(memory):
    assert len(copy.deepcopy(memory)) == 0
    assert len(memory) == 4
