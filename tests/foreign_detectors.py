"""Small detectors in the styles of other people's projects; none of them knows of video.

All find objects in the same way, on one map of the backbone: per cell a score per class and the
four sides of a box. What differs is how they are constructed, prepare images, pad, name their
outputs, and where their backbone is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import CfgNode, LazyConfig, configurable, get_cfg
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    Backbone,
    build_backbone,
    detector_postprocess,
)
from detectron2.modeling.backbone.fpn import FPN
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2 import add_iff_config
from iff_detectron2.modeling import make_video_arch

CLASSES = 3
STRIDE = 8


@BACKBONE_REGISTRY.register()
class TinyBackbone(Backbone):
    """Maps of stride 8 and 16, one convolution each."""

    def __init__(self, cfg: CfgNode | None = None, input_shape: ShapeSpec | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, stride=8)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self._out_features = ["m8", "m16"]
        self._out_feature_channels = {"m8": 8, "m16": 8}
        self._out_feature_strides = {"m8": 8, "m16": 16}

    @property
    def size_divisibility(self) -> int:
        return 16

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if not len(x):
            raise RuntimeError("this backbone refuses an empty batch, as ViT and MViT do")
        m8 = self.stem(x).relu()
        return {"m8": m8, "m16": self.down(m8).relu()}


@BACKBONE_REGISTRY.register()
class AlwaysBranchingBackbone(TinyBackbone):
    """Makes three different maps per image, as Trident does."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = super().forward(x)
        return {k: torch.cat([v * scale for scale in (0.5, 1, 2)]) for k, v in maps.items()}


@BACKBONE_REGISTRY.register()
class BranchingBackbone(AlwaysBranchingBackbone):
    """Makes three maps per image in training and one in testing, as the fast Trident does."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return super().forward(x) if self.training else TinyBackbone.forward(self, x)


class Head(nn.Module):
    """Scores and sides from the two maps, with statistics of the batch in between."""

    def __init__(self, norm: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), norm(16), nn.ReLU())
        self.scores = nn.Conv2d(16, CLASSES, 1)
        self.sides = nn.Conv2d(16, 4, 1)

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        fine, coarse = features["m8"], features["m16"]
        coarse = F.interpolate(coarse, size=fine.shape[-2:])
        x = self.mix(torch.cat((fine, coarse), dim=1))
        return self.scores(x), self.sides(x).exp() * STRIDE


class Dense(nn.Module):
    """What the styles share: heads, losses, boxes."""

    def __init__(self, norm: type[nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.head = Head(norm)
        self.register_buffer("pixel_mean", torch.full((3, 1, 1), 110.0), False)
        self.register_buffer("pixel_std", torch.full((3, 1, 1), 60.0), False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def normalised(self, samples: list[dict]) -> list[Tensor]:
        return [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in samples]

    def answer(self, features: dict[str, Tensor], sizes: list, samples: list[dict]):
        """Return losses in training, else what was found in each image."""
        scores, sides = self.head(features)
        assert len(scores) == len(samples)
        if self.training:
            return self.losses(scores, sides, [x["instances"] for x in samples])
        found = [self.detect(*maps) for maps in zip(scores, sides, sizes, strict=True)]
        return [
            self.output(one, sample.get("height", size[0]), sample.get("width", size[1]))
            for one, sample, size in zip(found, samples, sizes, strict=True)
        ]

    def output(self, found: Instances, height: int, width: int) -> dict[str, Any]:
        return {"instances": detector_postprocess(found, height, width)}

    def losses(self, scores: Tensor, sides: Tensor, truth: list[Instances]) -> dict[str, Tensor]:
        wanted = torch.zeros_like(scores)
        for image, instances in enumerate(truth):
            for (x, y), label in zip(
                instances.gt_boxes.get_centers().tolist(), instances.gt_classes, strict=True
            ):
                wanted[image, int(label), int(y / STRIDE), int(x / STRIDE)] = 1
        return {
            "loss_score": F.binary_cross_entropy_with_logits(scores, wanted),
            "loss_side": (sides / 30 - 1).abs().mean(),
        }

    def detect(self, scores: Tensor, sides: Tensor, size: tuple[int, int]) -> Instances:
        ys, xs = ((torch.arange(n) + 0.5) * STRIDE for n in scores.shape[-2:])
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        best, labels = scores.sigmoid().amax(0).flatten(), scores.argmax(0).flatten()
        left, top, right, bottom = sides
        corners = torch.stack((x - left, y - top, x + right, y + bottom), dim=-1).view(-1, 4)
        found = Instances(tuple(size), pred_boxes=Boxes(corners), scores=best, pred_classes=labels)
        found.pred_boxes.clip(tuple(size))
        return found[batched_nms(found.pred_boxes.tensor, best, labels, 0.9)[:5]]


@META_ARCH_REGISTRY.register()
class ConfigAlone(Dense):
    """Is constructed from a config and nothing else, without `from_config` (Sparse R-CNN)."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.device_name = cfg.MODEL.DEVICE
        self.backbone = build_backbone(cfg)
        self.to(self.device_name)

    def forward(self, batched_inputs: list[dict], do_postprocess: bool = True):
        images = ImageList.from_tensors(self.normalised(batched_inputs), 16)
        return self.answer(self.backbone(images.tensor), images.image_sizes, batched_inputs)


@META_ARCH_REGISTRY.register()
class TuplePreprocess(ConfigAlone):
    """Its `preprocess_image` returns sizes too, and its truth is read before the backbone runs."""

    def preprocess_image(self, batched_inputs: list[dict]) -> tuple[ImageList, Tensor]:
        images = ImageList.from_tensors(self.normalised(batched_inputs), 16)
        return images, torch.tensor([[w, h, w, h] for h, w in images.image_sizes])

    def forward(self, batched_inputs: list[dict], do_postprocess: bool = True):
        images, whwh = self.preprocess_image(batched_inputs)
        if self.training:
            assert all(len(x["instances"]) for x in batched_inputs)
        features = self.backbone(images.tensor)
        assert len(whwh) == len(batched_inputs)
        return self.answer(features, images.image_sizes, batched_inputs)


class MaskedBackbone(nn.Module):
    """Says beside the maps which of their cells are padding (DETR)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: ImageList) -> tuple[dict[str, Tensor], Tensor]:
        features = self.backbone(images.tensor)
        batch, _, height, width = features["m8"].shape
        padding = torch.ones(batch, height, width, dtype=torch.bool)
        assert len(images.tensor) == batch
        for index, (h, w) in enumerate(images.image_sizes):
            padding[index, : -(-h // STRIDE), : -(-w // STRIDE)] = False
        return features, padding


class Transformer(nn.Module):
    """Attention over the cells that are no padding."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = nn.Sequential(MaskedBackbone(backbone))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, images: ImageList) -> dict[str, Tensor]:
        features, padding = self.backbone[0](images)
        x = features["m8"].flatten(2).transpose(1, 2)
        mixed, _ = self.attention(x, x, x, key_padding_mask=padding.flatten(1))
        return {**features, "m8": mixed.transpose(1, 2).reshape(features["m8"].shape)}


@META_ARCH_REGISTRY.register()
class MaskedTransformer(Dense):
    """Masks by the batch size of `images.tensor`; the backbone is detr.backbone.0.backbone."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.detr = Transformer(build_backbone(cfg))

    def forward(self, batched_inputs: list[dict]):
        images = ImageList.from_tensors(self.normalised(batched_inputs))
        height, width = (-(-side // 16) * 16 for side in images.tensor.shape[-2:])
        padding = (0, width - images.tensor.shape[-1], 0, height - images.tensor.shape[-2])
        images = ImageList(F.pad(images.tensor, padding), images.image_sizes)
        return self.answer(self.detr(images), images.image_sizes, batched_inputs)


@META_ARCH_REGISTRY.register()
class OwnPadding(ConfigAlone):
    """Pads to a square of a multiple of 32, in front and behind (MaskFormer, ViTDet)."""

    def forward(self, batched_inputs: list[dict]):
        images = self.normalised(batched_inputs)
        sizes = [tuple(x.shape[-2:]) for x in images]
        side = -(-max(n for size in sizes for n in size) // 32) * 32
        padded = [F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2])) for x in images]
        return self.answer(self.backbone(torch.stack(padded)), sizes, batched_inputs)


class Engine(nn.Module):
    """Holds a backbone out of sight."""

    def __init__(self, body: Backbone) -> None:
        super().__init__()
        self.body = body


@META_ARCH_REGISTRY.register()
class HiddenBackbone(Dense):
    """Has no attribute `backbone`, normalises statistics of the batch, one loss in training."""

    @configurable
    def __init__(self, *, body: Backbone) -> None:
        super().__init__(nn.BatchNorm2d)
        self.engine = Engine(body)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return {"body": build_backbone(cfg)}

    def forward(self, batched_inputs: list[dict]):
        images = ImageList.from_tensors(self.normalised(batched_inputs), 16)
        answer = self.answer(self.engine.body(x=images.tensor), images.image_sizes, batched_inputs)
        return sum(answer.values()) if self.training else answer


@META_ARCH_REGISTRY.register()
class Segmenter(ConfigAlone):
    """Gives a class for each pixel and no instances."""

    def output(self, found: Instances, height: int, width: int) -> dict[str, Any]:
        return {"sem_seg": found.scores.sum() * torch.ones(CLASSES, height, width)}


@META_ARCH_REGISTRY.register()
class Panoptic(ConfigAlone):
    """Gives everything, and no instances in every second image."""

    images = 0

    def output(self, found: Instances, height: int, width: int) -> dict[str, Any]:
        found = detector_postprocess(found, height, width)
        segments = torch.zeros(height, width, dtype=torch.int32)
        info = [{"id": 1, "isthing": True, "category_id": 0, "score": found.scores.sum().item()}]
        output = {
            "panoptic_seg": (segments, info),
            "sem_seg": torch.zeros(CLASSES, height, width),
            "proposals": Instances((height, width), proposal_boxes=found.pred_boxes),
        }
        self.images += 1
        return {**output, "instances": found} if self.images % 2 else output


@META_ARCH_REGISTRY.register()
class Branching(ConfigAlone):
    """Learns from every map of an image, and finds in their mean."""

    def answer(self, features: dict[str, Tensor], sizes: list, samples: list[dict]):
        branches = len(features["m8"]) // len(samples)
        if self.training:
            return super().answer(features, sizes * branches, samples * branches)
        means = {k: x.unflatten(0, (branches, -1)).mean(dim=0) for k, x in features.items()}
        return super().answer(means, sizes, samples)


@META_ARCH_REGISTRY.register()
class TwiceThrough(ConfigAlone):
    """Shows its backbone every image twice, which no seam can put in order."""

    def forward(self, batched_inputs: list[dict]):
        images = ImageList.from_tensors(self.normalised(batched_inputs), 16)
        self.backbone(images.tensor.flip(-1))
        return self.answer(self.backbone(images.tensor), images.image_sizes, batched_inputs)


STYLES = {
    style.__name__: style
    for style in (
        ConfigAlone,
        TuplePreprocess,
        MaskedTransformer,
        OwnPadding,
        HiddenBackbone,
        Segmenter,
        Panoptic,
    )
}
VideoConfigAlone = make_video_arch(ConfigAlone)
VideoTuplePreprocess = make_video_arch(TuplePreprocess)
VideoMaskedTransformer = make_video_arch(MaskedTransformer)
VideoOwnPadding = make_video_arch(OwnPadding)
VideoHiddenBackbone = make_video_arch(HiddenBackbone)
VideoSegmenter = make_video_arch(Segmenter)
VideoPanoptic = make_video_arch(Panoptic)
VideoBranching = make_video_arch(Branching, branches=True)
VideoTwiceThrough = make_video_arch(TwiceThrough)


def foreign_cfg(style: str, *opts: Any) -> CfgNode:
    """Return the config of a plain detector of a style, with narrow temporal parts."""
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.META_ARCHITECTURE", style),
            *("MODEL.BACKBONE.NAME", "TinyBackbone", "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES),
            *("MODEL.IFF.FLOW.CHANNELS", 8, "MODEL.IFF.FLOW.PAIR_CHANNELS", 8),
            *("MODEL.IFF.FLOW.MAX_DISPLACEMENT", 2, "MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS", 8),
            *("MODEL.IFF.EMBEDDING.CHANNELS", 8, "TEST.VIDEO.NUM_REFS", 2),
            *("INPUT.MIN_SIZE_TEST", 49, "INPUT.MAX_SIZE_TEST", 80),
            *opts,
        ]
    )
    return cfg


def lazy_model(kind: str) -> Any:
    """Return Detectron2's own LazyConfig of Mask R-CNN on ViT (ViTDet) or MViT, narrowed.

    Args:
        kind: ViT or MViT.
    """
    from detectron2.modeling import MViT  # not in the 0.6 release

    common = Path(detectron2.__file__).parent / "model_zoo/configs/common/models"
    model = LazyConfig.load(str(common / "mask_rcnn_vitdet.py")).model
    if kind == "ViT":
        model.backbone.square_pad = 96
        model.backbone.top_block = None
        model.backbone.scale_factors = (2.0, 1.0)
        net = model.backbone.net
        net.update({"img_size": 96, "embed_dim": 16, "depth": 2, "num_heads": 2, "window_size": 3})
        net.window_block_indexes = [0]
        maps = ["p3", "p4"]
    else:
        model.backbone = L(FPN)(
            bottom_up=L(MViT)(
                img_size=96,
                embed_dim=8,
                depth=3,
                num_heads=1,
                last_block_indexes=(0, 1, 2),
                adaptive_window_size=12,
                out_features=("scale3", "scale4"),
            ),
            in_features=("scale3", "scale4"),
            out_channels=16,
            square_pad=96,
        )
        maps = ["p3", "p4"]
    model.backbone.out_channels = 16
    model.proposal_generator.in_features = maps
    model.proposal_generator.head.update({"in_channels": 16, "conv_dims": [-1]})
    model.proposal_generator.anchor_generator.update({"sizes": [[16], [32]], "strides": [8, 16]})
    model.proposal_generator.update({"pre_nms_topk": (50, 20), "post_nms_topk": (20, 10)})
    heads = model.roi_heads
    heads.num_classes = CLASSES
    heads.batch_size_per_image = 8
    for pooler in (heads.box_pooler, heads.mask_pooler):
        pooler.update({"output_size": 4, "scales": (1 / 8, 1 / 16)})
    heads.box_in_features = heads.mask_in_features = maps
    shape = ShapeSpec(channels=16, width=4, height=4)
    heads.box_head.update({"input_shape": shape, "conv_dims": [], "fc_dims": [16]})
    heads.box_predictor.input_shape = ShapeSpec(channels=16)
    heads.box_predictor.test_score_thresh = 0.0
    heads.box_predictor.test_topk_per_image = 5
    heads.mask_head.update({"input_shape": shape, "conv_dims": [16, 16]})
    return model
