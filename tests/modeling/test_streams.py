"""What a stream must notice, and what a pass that fails must not leave behind."""

import copy
import io
import pickle

import pytest
import torch
from detectron2.modeling import DatasetMapperTTA
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample, window_sample


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


OFFSETS = (-2, -1, 1, 2)


@pytest.fixture(scope="module")
def trained():
    model = build(tiny_cfg())
    randomise_flow(model)
    return model


@pytest.fixture
def model(trained):
    trained.reset()
    yield trained
    trained.reset()


def detect(model, video, t, video_id="v"):
    sample = window_sample(video, t, OFFSETS, streaming_from=max(t - 1, 0), video_id=video_id)
    with torch.no_grad():
        return model([sample])[0]["instances"]


def run(model, video, video_id="v"):
    return [detect(model, video, t, video_id) for t in range(len(video))]


def assert_equal(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)


@pytest.fixture
def failing():
    """Return what makes a part of a model fail once."""

    def arm(owner, name):
        def fail(*args, **kwargs):
            delattr(owner, name)  # the method of the class is back
            raise Interrupted

        setattr(owner, name, fail)

    return arm


PARTS = {
    "preparation": lambda m: (m, "preprocess_image"),
    "backbone": lambda m: (m.backbone.stem, "forward"),
    "encoding": lambda m: (m.temporal.aggregators["reduction"], "encode"),
    "flow": lambda m: (m.temporal.aggregators["reduction"], "forward"),
    "proposals": lambda m: (m.proposal_generator, "forward"),
    "heads": lambda m: (m.roi_heads, "forward"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("at", [0, 2])
def test_a_pass_that_fails_can_be_repeated(model, failing, part, at):
    video = make_video(5, seed=1)
    expected = run(model, video)
    model.reset()
    got = [detect(model, video, t) for t in range(at)]
    held = model.temporal.memory.nbytes()
    failing(*PARTS[part](model))
    with pytest.raises(Interrupted):
        detect(model, video, at)
    assert model.temporal.memory.nbytes() <= held
    assert not model.temporal.last
    assert "forward" not in vars(model.backbone)
    got += [detect(model, video, t) for t in range(at, 5)]
    assert_equal(got, expected)


@pytest.mark.parametrize("part", PARTS)
def test_after_a_failure_another_video_is_as_ever(model, failing, part):
    a, b = make_video(5, seed=1), make_video(3, seed=2)
    expected = run(model, b)
    for clean in (model.reset, lambda: None):
        clean()
        detect(model, a, 0, "a")
        failing(*PARTS[part](model))
        with pytest.raises(Interrupted):
            detect(model, a, 1, "a")
        clean()
        assert_equal(run(model, b, f"b {clean}"), expected)


def test_a_failed_training_step_leaves_nothing(model, failing):
    model = copy.deepcopy(model).train()
    sample = training_sample(make_video(3), 1, (-1, 1), [(10, 10, 60, 50)], [0])
    failing(model.roi_heads, "forward")
    with EventStorage(), pytest.raises(Interrupted):
        model([sample])
    assert not model.temporal.last
    assert not len(model.temporal.memory)


def test_a_video_that_starts_again_is_seen_anew(model):
    video = make_video(4, seed=3)
    flipped = [frame.flip(-1) for frame in video]
    expected = run(model, flipped)
    model.reset()
    run(model, video)
    assert_equal(run(model, flipped), expected)


def test_going_back_in_time_is_noticed(model):
    video = make_video(7, seed=3)
    for t in range(6):
        detect(model, video, t)
    with pytest.raises(ValueError, match=r"frame 4 of video 'v' needs frames .*in order"):
        detect(model, video, 4)


def test_the_same_frame_twice_is_not_taken_from_memory(model):
    video = make_video(4, seed=3)
    other = [frame.flip(-1) for frame in video]
    detect(model, video, 0)
    first = detect(model, other, 0)
    model.reset()
    assert_equal([first], [detect(model, other, 0)])


def test_frames_that_are_observed_again_start_the_video_anew(model):
    clip = make_video(3, seed=4)
    for t in (0, 1, 0):
        model.observe({**window_sample(clip, t, ()), "image": clip[2]})
    assert len(model.temporal.memory) == 1


def change_by_optimizer(model):
    parameters = list(model.parameters())
    for p in parameters:
        p.grad = torch.ones_like(p)
    torch.optim.SGD(parameters, lr=1e-3).step()


def change_one_parameter(model):
    conv = model.temporal.aggregators["reduction"].flow_estimator.flow
    conv.bias = torch.nn.Parameter(conv.bias + 1)


@pytest.mark.parametrize(
    "change", [change_by_optimizer, change_one_parameter, lambda model: model.double().float()]
)
def test_weights_that_change_in_the_middle_are_noticed(model, change):
    model = copy.deepcopy(model)
    video = make_video(4, seed=5)
    detect(model, video, 0)
    change(model)
    with pytest.raises(ValueError, match="weights of the model changed in the middle of video 'v'"):
        detect(model, video, 1)
    detect(model, video, 0, "w")  # another video starts with the new weights


def test_evaluation_mode_may_be_set_for_every_frame(model):
    video = make_video(5, seed=6)
    expected = run(model, video)
    model.reset()
    got = []
    for t in range(5):
        model.eval()
        got.append(detect(model, video, t))
    assert_equal(got, expected)


def test_reference_frames_of_another_size_are_refused(model):
    video, larger = make_video(3), make_video(3, 96, 144)
    for mode in (True, False):
        model.train(mode)
        sample = training_sample(video, 1, (-1, 1), [(10, 10, 60, 50)], [0])
        sample["ref_images"][1] = larger[2]
        message = r"reference frame at offset 1 is \(96, 144\) pixels and its key frame \(65, 97\)"
        with pytest.raises(ValueError, match=message):
            model([sample])


def test_test_time_augmentation_of_the_key_frame_alone_is_refused(model):
    sample = window_sample(make_video(3), 1, (-1, 1))
    cfg = tiny_cfg("TEST.AUG.MIN_SIZES", (64, 96))
    augmented = DatasetMapperTTA(cfg)({**sample, "image": sample["image"]})
    for one in augmented:
        with pytest.raises(ValueError, match="test-time augmentation transformed the key frame"):
            model.inference([one])


def test_inference_called_by_itself_is_over_time_too(model):
    video = make_video(4, seed=7)
    expected = run(model, video)
    model.reset()
    for t in range(4):
        sample = window_sample(video, t, OFFSETS, streaming_from=max(t - 1, 0))
        with torch.no_grad():
            (got,) = model.inference([sample])
        assert_equal([got["instances"]], [expected[t]])


def test_a_model_in_the_middle_of_a_stream_pickles_without_it(model):
    video = make_video(4, seed=8)
    expected = run(model, video)
    stream = io.BytesIO()
    torch.save(model, stream)
    weights = sum(x.nbytes for x in (*model.parameters(), *model.buffers()))
    assert len(stream.getvalue()) < 1.2 * weights + 300_000  # no maps of the video
    stream.seek(0)
    for other in (
        torch.load(stream, weights_only=False),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        assert type(other) is type(model)
        assert not len(other.temporal.memory)
        assert not other.temporal.last
        assert_equal(run(other, video), expected)
