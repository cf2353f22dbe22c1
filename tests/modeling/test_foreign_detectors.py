"""Detectors in the styles of other people's projects become temporal, and keep what they were."""

import pickle

import numpy as np
import pytest
import torch
from check_detector import subject_of_config, subject_of_lazy_model
from detector_checks import CHECKS, Subject
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from foreign_detectors import (
    CLASSES,
    STYLES,
    Dense,
    VideoConfigAlone,
    foreign_cfg,
    lazy_model,
)
from made_samples import textured_clip, with_truth
from made_samples import window_sample as sample_of
from torch import nn

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.modeling import make_video_arch

SIZE = (49, 65)
# Backbones of the style that has several maps per image.
BRANCHING = ["BranchingBackbone", "AlwaysBranchingBackbone"]


def subject(style: str) -> Subject:
    if style in ("ViT", "MViT"):
        pytest.importorskip("timm", reason="Detectron2's ViT and MViT need timm")
        pytest.importorskip("detectron2.modeling.backbone.vit", reason="Detectron2 0.6 has no ViT")
        cfg = foreign_cfg("GeneralizedRCNN")
        return subject_of_lazy_model(lazy_model(style), cfg, size=SIZE, num_classes=CLASSES)
    if style in BRANCHING:
        cfg = foreign_cfg("Branching", "MODEL.BACKBONE.NAME", style)
        return subject_of_config(cfg, size=SIZE, branches=True)
    return subject_of_config(foreign_cfg(style), size=SIZE)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "style",
    [
        *STYLES,
        *BRANCHING,
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("ViT", "MViT")),
    ],
)
def test_a_style_keeps_every_property(style, check):
    CHECKS[check](subject(style))


def video_of(style: str, *opts):
    cfg = foreign_cfg(style, *opts)
    cfg.MODEL.META_ARCHITECTURE = f"Video{style}"
    return build_model(cfg)


def sample(*, new_only: bool = False, t: int = 1) -> dict:
    clip = [torch.full((3, *SIZE), 20 * k, dtype=torch.uint8) for k in range(4)]
    return sample_of(clip, t, (-1, 1), new_only)


def test_several_maps_per_image_must_be_declared(unregister):
    cfg = foreign_cfg("Branching", "MODEL.BACKBONE.NAME", "BranchingBackbone")
    model = make_video_arch(META_ARCH_REGISTRY.get("Branching"), "VideoUndeclared")(cfg)
    said = r"map 'm8' of the backbone has 9 samples for 3 images.*_arch\(\.\.\., branches=True\)"
    with pytest.raises(TypeError, match=said):
        model([sample()])
    assert "forward" not in vars(model.backbone)
    model.eval()([sample()])


@pytest.mark.parametrize(
    ("maps", "name", "count"),
    [({"a": 3, "b": 6}, "b", 6), ({"a": 4, "b": 4}, "a", 4), ({"a": 0, "b": 0}, "a", 0)],
)
def test_declared_branches_must_be_whole_batches(maps, name, count, unregister):
    class Odd(META_ARCH_REGISTRY.get("ConfigAlone")):
        def __init__(self, cfg):
            super().__init__(cfg)
            self.backbone.forward = lambda x: {n: x.new_zeros(k, 8, 6, 8) for n, k in maps.items()}

    model = make_video_arch(Odd, branches=True)(foreign_cfg("Odd"))
    said = f"map '{name}' of the backbone has {count} samples for 3 images.* cannot be known$"
    with pytest.raises(TypeError, match=said):
        model([sample()])


def training_batch() -> list[dict]:
    """Return two samples whose images and truths differ."""
    batch = []
    for t, box in ((1, [3.0, 4.0, 20.0, 20.0]), (3, [40.0, 25.0, 60.0, 45.0])):
        truth = Instances(SIZE, gt_boxes=Boxes(torch.tensor([box])))
        truth.gt_classes = torch.tensor([t % CLASSES])
        batch.append({**sample_of(textured_clip(4, SIZE), t, (-1, -2), False), "instances": truth})
    return batch


@pytest.mark.parametrize("backbone", BRANCHING)
def test_each_map_of_an_image_meets_the_truth_of_that_image(backbone):
    """The plain detector says what its losses are; with a closed gate they are the same."""
    plain, video = subject(backbone).pair("MODEL.IFF.GATE", True)
    for model in (plain.train(), video.train()):
        model.head.scores.weight.data.mul_(100)  # so that images differ in their scores
    first, second = training_batch()
    with EventStorage(0):
        expected, got = (model([first, second]) for model in (plain, video))
        first["instances"], second["instances"] = second["instances"], first["instances"]
        exchanged = plain([first, second])
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-5, atol=1e-6)
    assert abs(exchanged["loss_score"] - expected["loss_score"]) > 1e-4


def test_branches_are_aggregated_each_by_itself():
    """Each branch gives what a detector with that branch alone gives."""
    _, video = subject("AlwaysBranchingBackbone").pair()
    whole = video.backbone.forward

    def only(branch):
        return lambda x: {n: m.unflatten(0, (3, -1))[branch] for n, m in whole(x).items()}

    clip = textured_clip(4, SIZE)
    seen = []
    for forward in (whole, only(0), only(1), only(2)):
        video.reset()
        video.backbone.forward = forward
        with torch.no_grad():
            for t in range(4):
                video([sample_of(clip, t, (-1, 1), True)])
        seen.append([f.levels["m8"].feature for f in video.temporal.last])
    together, *alone = seen
    assert len(together) == 3
    for a, (b,) in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("training", [True, False])
def test_two_passes_through_the_backbone_are_noticed(training):
    model = video_of("TwiceThrough").train(training)
    with (
        EventStorage(0),
        pytest.raises(TypeError, match="TwiceThrough calls its backbone more than once"),
    ):
        model([sample()])


def test_a_module_that_is_not_passed_is_no_backbone():
    class Aside(Dense):
        def __init__(self, cfg):
            super().__init__()
            self.net = nn.Conv2d(3, 8, 8, stride=8)
            self.backbone = nn.Identity()

        def forward(self, batched_inputs):
            return [self.net(x["image"][None].float()) for x in batched_inputs]

    cls = make_video_arch(Aside, "VideoAside")
    try:
        with pytest.raises(TypeError, match=r"Identity, has no output_shape\(\)"):
            cls(foreign_cfg("Aside"))
        temporal = VideoConfigAlone(foreign_cfg("ConfigAlone")).temporal
        model = cls(None, temporal=temporal).eval()
        for one in (sample(), {"image": sample()["image"]}):
            with pytest.raises(TypeError, match="does not call"):
                model([one])
    finally:
        del META_ARCH_REGISTRY._obj_map["VideoAside"]


class Pair(Dense):
    """Has two backbones and says of neither that it is the one."""

    def __init__(self, cfg):
        super().__init__()
        made = [VideoConfigAlone(cfg).backbone for _ in range(2)]
        self.left, self.right = made

    def forward(self, batched_inputs):
        features = self.right(torch.stack(self.normalised(batched_inputs))[..., :48, :64])
        return self.answer(features, [(48, 64)] * len(batched_inputs), batched_inputs)


@pytest.fixture
def unregister():
    before = set(META_ARCH_REGISTRY._obj_map)
    yield
    for name in set(META_ARCH_REGISTRY._obj_map) - before:
        del META_ARCH_REGISTRY._obj_map[name]


def test_of_several_backbones_one_must_be_named(unregister):
    cfg = foreign_cfg("Pair")
    with pytest.raises(TypeError, match=r"no backbone among left, right alone; name the module"):
        make_video_arch(Pair)(cfg)
    with pytest.raises(TypeError, match="no backbone at 'middle'"):
        make_video_arch(Pair, "VideoPairMiddle", backbone="middle")(cfg)
    model = make_video_arch(Pair, "VideoPairRight", backbone="right")(cfg).eval()
    assert model.image_backbone is model.right
    model([sample()])


def test_made_twice_it_is_the_same_class_and_another_is_refused(unregister):
    assert make_video_arch(META_ARCH_REGISTRY.get("ConfigAlone")) is VideoConfigAlone

    class ConfigAlone(Dense):
        def forward(self, batched_inputs):
            return []

    with pytest.raises(ValueError, match=r"VideoConfigAlone is taken .*foreign_detectors"):
        make_video_arch(ConfigAlone)
    with pytest.raises(ValueError, match="VideoRetinaNet is taken"):
        make_video_arch(ConfigAlone, "VideoRetinaNet")
    assert make_video_arch(ConfigAlone, "VideoOther") is META_ARCH_REGISTRY.get("VideoOther")
    with pytest.raises(TypeError, match="VideoConfigAlone is a video detector already"):
        make_video_arch(VideoConfigAlone)


def test_what_is_missing_for_the_temporal_part_is_said():
    cfg = foreign_cfg("ConfigAlone")
    del cfg.MODEL["IFF"]
    with pytest.raises(TypeError, match=r"without MODEL\.IFF: call .*add_iff_config"):
        VideoConfigAlone(cfg)
    with pytest.raises(TypeError, match="VideoHiddenBackbone needs temporal=TemporalAggregation"):
        META_ARCH_REGISTRY.get("VideoHiddenBackbone")(
            body=VideoConfigAlone(foreign_cfg("ConfigAlone")).backbone
        )


@pytest.mark.parametrize("style", STYLES)
def test_classes_and_models_pickle(style):
    model = video_of(style).eval()
    assert pickle.loads(pickle.dumps(type(model))) is type(model)
    model([sample(t=0)])
    other = pickle.loads(pickle.dumps(model))
    assert not len(other.temporal.memory)
    for got, expected in zip(other([sample(t=0)]), model([sample(t=0)]), strict=True):
        assert got.keys() == expected.keys()


class Noisy(Dense):
    """Drops at random in every way."""

    def __init__(self, cfg):
        super().__init__(nn.BatchNorm2d)
        self.backbone = VideoConfigAlone(cfg).backbone
        self.drops = nn.Sequential(
            nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)
        )

    def forward(self, batched_inputs):
        images = torch.stack(self.normalised(batched_inputs))[..., :48, :64]
        features = self.backbone(images)
        features["m8"] = self.drops(features["m8"])
        return self.answer(features, [(48, 64)] * len(batched_inputs), batched_inputs)


def test_a_frozen_detector_is_still_from_its_construction_on(unregister):
    cls = make_video_arch(Noisy)
    model = cls(foreign_cfg("Noisy", "MODEL.IFF.FREEZE_DETECTOR", True))
    assert model.training
    batch = [with_truth(sample(), CLASSES)]
    statistics = model.head.mix[1].running_mean.clone()
    with EventStorage(0):
        first, second = model(batch), model(batch)
    assert first.keys() == {"loss_score", "loss_side", "loss_trl"}
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(model.head.mix[1].running_mean, statistics)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.startswith("temporal.")}


def frames(count):
    generator = np.random.default_rng(0)
    return list(generator.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("style", "names"),
    [
        ("Segmenter", {"sem_seg"}),
        ("Panoptic", {"sem_seg", "panoptic_seg", "proposals", "instances"}),
    ],
)
def test_a_predictor_returns_what_the_detector_gives(style, names, caplog):
    torch.manual_seed(0)
    model = video_of(style)
    predictor = VideoPredictor(foreign_cfg(style), model)
    seen = list(predictor.outputs(frames(5)))
    assert [index for index, _, _ in seen] == list(range(5))
    assert set().union(*(output for _, _, output in seen)) == names
    for _, frame, output in seen:
        assert output["sem_seg"].shape[1:] == frame.shape[:2]
    model.images = 0  # by which Panoptic decides what to leave out
    with caplog.at_level("WARNING"):
        results = list(predictor(frames(5)))
    lacking = 0
    for (_, _, instances), (_, _, output) in zip(results, seen, strict=True):
        assert instances.image_size == SIZE
        assert len(instances) == len(output.get("instances", ()))
        assert instances.has("pred_boxes")
        lacking += "instances" not in output
    assert lacking
    assert caplog.text.count("gives no 'instances' for some frames, but") <= 1


def test_outputs_of_a_whole_predictor_are_on_the_cpu_and_plain(unregister):
    class Bare(META_ARCH_REGISTRY.get("ConfigAlone")):
        def output(self, found, height, width):
            return found

    predictor = VideoPredictor(
        foreign_cfg("ConfigAlone"), make_video_arch(Bare)(foreign_cfg("ConfigAlone"))
    )
    outputs = [output for _, _, output in predictor.outputs(frames(2))]
    assert [list(output) for output in outputs] == [["instances"]] * 2
    Bare.output = lambda self, found, height, width: 7
    predictor.push(frames(2)[0])  # the window looks ahead
    with pytest.raises(TypeError, match="VideoBare gives int for a frame"):
        predictor.push(frames(2)[1])
