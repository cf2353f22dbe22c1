import numpy as np
import pytest
import torch
from toy_models import build, tiny_cfg

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.engine.memory_plan import GIB, MemoryPlan, available_memory, check_fits
from iff_detectron2.modeling import FlowEstimator

# Big enough for the codes to matter, small enough to be quick.
SIZES = ["INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 128]


@pytest.fixture(scope="module")
def model():
    return build(tiny_cfg(*SIZES))


def predictor_of(model, *opts):
    return VideoPredictor(tiny_cfg(*SIZES, *opts), model)


@pytest.fixture
def all_at_once(monkeypatch):
    """Return the flow of all neighbours is estimated at once, as it is on a GPU."""
    monkeypatch.setattr(FlowEstimator, "cpu_batch", 1000)


def frames(count):
    return [np.full((96, 128, 3), 9 * t, np.uint8) for t in range(count)]


@pytest.mark.parametrize(
    "opts",
    [
        (),
        ("TEST.VIDEO.NUM_REFS", 8, "TEST.VIDEO.CAUSAL", True),
        ("TEST.VIDEO.STRIDE", 3),
        ("TEST.VIDEO.MEMORY_DTYPE", "bfloat16"),
        ("TEST.VIDEO.AMP", "bfloat16"),
        ("TEST.VIDEO.NUM_REFS", 0),
    ],
)
def test_the_memory_is_as_large_as_planned(model, opts):
    predictor = predictor_of(model, *opts)
    plan = predictor.plan(96, 128)
    largest = 0
    for frame in frames(plan.frames + 2):
        predictor.push(frame)
        largest = max(largest, predictor.memory.nbytes())
    assert largest == plan.memory > 0
    # By hand: 12 x 16 cells of 32 features, 16 of the flow, 16 of the embedding.
    size = 2 if "bfloat16" in opts else 4
    assert plan.per_frame == 12 * 16 * (32 + 16 + 16) * size
    assert plan.weights == sum(x.nbytes for x in (*model.parameters(), *model.buffers()))


@pytest.mark.usefixtures("all_at_once")
def test_working_memory_counts_what_stands_side_by_side(model):
    # Of a neighbour: 16 channels of its flow code, 81 of the correlation, at most four maps of 8
    # and the flow. Features and embeddings are read where they are.
    cells = 12 * 16 * 4
    pairs = {n: predictor_of(model, "TEST.VIDEO.NUM_REFS", n).plan(96, 128) for n in (20, 40)}
    grown = (pairs[40].working - pairs[20].working) / 20
    assert (16 + 81) * cells <= grown <= (16 + 81 + 4 * 8 + 2) * cells


def test_on_the_cpu_more_refs_take_no_more_working_memory(model):
    few, many = (
        predictor_of(model, "TEST.VIDEO.NUM_REFS", count).plan(96, 128) for count in (20, 40)
    )
    # Beyond the flow of each and what says where it leads: four cells and their weights.
    assert 0 <= many.working - few.working <= 20 * 12 * 16 * (2 * 4 + 4 * (8 + 4))


def test_the_plan_covers_what_a_run_allocates(model):
    """The profiler's record of every allocation is the witness."""
    predictor = predictor_of(model, "TEST.VIDEO.NUM_REFS", 20)
    plan = predictor.plan(96, 128)
    clip = frames(plan.frames + 3)
    for frame in clip[:-1]:
        predictor.push(frame)
    held = predictor.memory.nbytes()
    with torch.profiler.profile(profile_memory=True) as profile:
        predictor.push(clip[-1])
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    assert held == plan.memory
    assert 0.5 * plan.working < peak < 1.3 * plan.working


@pytest.mark.usefixtures("all_at_once")
def test_chunks_and_small_types_take_less(model):
    base = ("TEST.VIDEO.NUM_REFS", 20)
    whole = predictor_of(model, *base).plan(96, 128)
    chunked = predictor_of(model, *base, "TEST.VIDEO.PAIRS_PER_CHUNK", 2).plan(96, 128)
    small = predictor_of(model, *base, "TEST.VIDEO.MEMORY_DTYPE", "float16").plan(96, 128)
    assert chunked.memory == whole.memory
    assert chunked.working < whole.working
    assert 2 * small.memory == whole.memory


def test_plain_detectors_have_no_memory():
    cfg = tiny_cfg(*SIZES, config="MovingShapes/rfcn.yaml")
    plan = VideoPredictor(cfg, build(cfg)).plan(96, 128)
    assert (plan.frames, plan.memory) == (0, 0)
    assert plan.working > 48 * 64 * 32 * 4  # the map behind the stem's convolution


def test_planning_leaves_no_trace(model):
    predictor = predictor_of(model)
    predictor.push(frames(1)[0])
    held = predictor.memory.nbytes()
    predictor.plan(960, 1280)
    assert predictor.memory.nbytes() == held
    assert not len(model.temporal.memory)


@pytest.mark.usefixtures("all_at_once")
def test_what_does_not_fit_is_refused_with_advice(model):
    base = ("TEST.VIDEO.NUM_REFS", 20)
    predictor = predictor_of(model, *base)
    predictor.memory_limit = predictor.plan(96, 128).on_device / GIB * 1.001
    predictor.check_memory(96, 128)
    predictor.memory_limit *= 0.99
    with pytest.raises(ValueError, match="does not fit into memory") as error:
        predictor.check_memory(96, 128)
    for advice in ("PAIRS_PER_CHUNK 4", "NUM_REFS 10"):
        assert f"TEST.VIDEO.{advice}" in str(error.value)
    # Alone it does not help: neighbours are fused in the model's own type, all of them at once.
    assert "MEMORY_DTYPE" not in str(error.value)
    assert "both of these" in str(error.value)
    predictor.memory_limit = 1e-6
    with pytest.raises(ValueError, match=r"use a smaller INPUT\.MIN_SIZE_TEST"):
        predictor.check_memory(96, 128)


def test_memory_on_another_device_has_a_limit_of_its_own():
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    plan = MemoryPlan(10, GIB, GIB, 2 * GIB, cuda, cpu)
    assert plan.on_device == 3 * GIB
    assert "3.00 GiB on cuda" in str(plan)
    check_fits(plan, {"cuda": 3 * GIB, "cpu": 10 * GIB}, {})
    with pytest.raises(ValueError, match=r"9\.00 GiB on cpu"):
        check_fits(plan, {"cuda": 3 * GIB, "cpu": 9 * GIB}, {})


def test_free_memory_of_this_machine():
    free = available_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
    assert available_memory(torch.device("meta")) is None
