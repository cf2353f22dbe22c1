import copy

import pytest
import torch
from toy_models import tiny_cfg

from iff_detectron2.modeling import FrameMemory
from iff_detectron2.modeling.frame_memory import build_frame_memory


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


def test_frames_behind_the_window_are_forgotten(memory):
    memory.forget_before(2)
    assert [frame in memory for frame in range(4)] == [False, False, True, True]


def test_refs_are_stacked_when_asked_for(memory):
    refs = memory.refs([2, 0, 0], "p3")
    stacked = memory.gather([2, 0, 0], "p3")["p3"]
    assert refs.keys() == stacked.keys()
    for name, x in stacked.items():
        assert torch.equal(refs[name], x)
        assert torch.equal(torch.cat(refs.parts[name]), x)
    assert refs.parts["feature"][1].data_ptr() == refs.parts["feature"][2].data_ptr()
    with pytest.raises(KeyError):
        memory.refs([9], "p3")


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, None])
def test_codes_are_kept_in_the_chosen_type_and_returned_in_their_own(dtype):
    memory = FrameMemory(dtype)
    memory.start("v", (48, 64))
    codes = {"p3": {"feature": torch.randn(1, 2, 3, 4), "flow": torch.randn(1, 5, 1, 1)}}
    memory.add(7, codes)
    assert memory.nbytes() == (24 + 5) * torch.finfo(dtype or torch.float32).bits // 8
    got = memory.gather([7, 7])["p3"]["feature"]
    rounded = codes["p3"]["feature"].to(dtype or torch.float32).float()
    assert torch.equal(got, torch.cat([rounded, rounded]))
    assert copy.deepcopy(memory).dtype is dtype
    memory.clear()
    assert memory.nbytes() == 0


def test_one_feature_map_alone_can_be_asked_for():
    memory = FrameMemory()
    memory.add(0, {"p3": {"feature": torch.ones(1)}, "p4": {"feature": torch.zeros(1)}})
    assert list(memory.gather([0], "p4")) == ["p4"]


@pytest.mark.parametrize(
    ("key", "value"), [("MEMORY_DTYPE", "float8"), ("MEMORY_DEVICE", "nowhere")]
)
def test_a_wrong_value_names_its_key(key, value):
    with pytest.raises(ValueError, match=rf"TEST\.VIDEO\.{key}.*{value}"):
        build_frame_memory(tiny_cfg(f"TEST.VIDEO.{key}", value))
