"""A small detector in the style of DETR: queries look at a map and answer with a set of boxes.

It knows nothing of video. Its backbone lies deep inside, and masks for the padding are made from
the batch of images; the last lines name where the backbone is, which is all there is to do.
"""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou, sigmoid_focal_loss

from iff_detectron2.modeling import make_video_arch


def add_query_config(cfg: CfgNode) -> None:
    """Add the keys of this detector to a Detectron2 config, in place."""
    cfg.MODEL.QUERY = CfgNode()
    # The feature map of the backbone to look at.
    cfg.MODEL.QUERY.IN_FEATURE = "p3"
    cfg.MODEL.QUERY.NUM_CLASSES = 80
    cfg.MODEL.QUERY.CHANNELS = 64
    cfg.MODEL.QUERY.HEADS = 4
    cfg.MODEL.QUERY.LAYERS = 2
    # Queries start from points on a grid of so many rows and columns.
    cfg.MODEL.QUERY.GRID = [6, 8]


class MaskedBackbone(nn.Module):
    """Feature map of a batch, and which of its cells are padding."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)
        self.in_feature = cfg.MODEL.QUERY.IN_FEATURE
        shape = self.backbone.output_shape()[self.in_feature]
        self.stride, self.channels = shape.stride, shape.channels

    def forward(self, images: ImageList) -> tuple[Tensor, Tensor]:
        """Return the map [N, C, H, W] and the mask [N, H, W], true for padding."""
        features = self.backbone(images.tensor)[self.in_feature]
        batch, _, height, width = images.tensor.shape
        padding = images.tensor.new_ones(batch, height, width)
        for mask, (h, w) in zip(padding, images.image_sizes, strict=True):
            mask[:h, :w] = 0
        return features, F.interpolate(padding[:, None], size=features.shape[-2:])[:, 0] > 0


def middles(rows: int, columns: int) -> Tensor:
    """Return x and y of the middles of the cells of a grid, row by row, in shares of its sides."""
    y, x = ((torch.arange(n) + 0.5) / n for n in (rows, columns))
    return torch.cartesian_prod(y, x).flip(-1)


def place_codes(places: Tensor, channels: int) -> Tensor:
    """Return sines and cosines of places.

    Args:
        places: x and y in shares of the image, [..., 2].
        channels: of the result, a multiple of 4: [..., channels].
    """
    # From one wave per image to one per few cells: finer ones would be noise.
    octaves = torch.linspace(0, 5, channels // 4, device=places.device)
    angles = (places[..., None] * torch.pi * 2**octaves).flatten(-2)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class Transformer(nn.Module):
    """Lets queries look at the cells of a map, and at each other."""

    def __init__(self, backbone: MaskedBackbone, query: CfgNode) -> None:
        super().__init__()
        self.backbone = backbone
        self.reduce = nn.Sequential(
            nn.Conv2d(backbone.channels, query.CHANNELS, 1), nn.GroupNorm(8, query.CHANNELS)
        )
        sizes = (query.CHANNELS, query.HEADS, 2 * query.CHANNELS, 0.0)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(*sizes, batch_first=True, norm_first=True)
            for _ in range(query.LAYERS)
        )
        rows, columns = query.GRID
        self.places = nn.Parameter(middles(rows, columns).logit())
        self.contents = nn.Embedding(rows * columns, query.CHANNELS)
        nn.init.normal_(self.contents.weight, std=0.02)  # what is seen counts, not who looks
        self.register_buffer("grid", torch.tensor([columns, rows], dtype=torch.float32), False)

    def forward(self, images: ImageList) -> tuple[Tensor, Tensor]:
        """Return what the queries saw, [N, Q, C], and the places they started from, [Q, 2]."""
        features, padding = self.backbone(images)
        features = self.reduce(features)
        batch, channels, height, width = features.shape
        cells = place_codes(middles(height, width).to(features), channels)
        memory = features.flatten(2).transpose(1, 2) + cells
        places = self.places.sigmoid()
        queries = (self.contents.weight + place_codes(places, channels)).expand(batch, -1, -1)
        # Each query looks around its place first, else it takes it long to learn where to look
        # (Gao et al., Fast Convergence of DETR with Spatially Modulated Co-Attention, 2021).
        apart = (places[:, None] - middles(height, width).to(places)) * self.grid
        nearness = -apart.square().sum(dim=-1)
        hidden = torch.zeros_like(features[:, 0]).masked_fill(padding, -torch.inf).flatten(1)
        for layer in self.layers:
            queries = layer(queries, memory, memory_mask=nearness, memory_key_padding_mask=hidden)
        return queries, places


@META_ARCH_REGISTRY.register()
class QueryDetector(nn.Module):
    """Answers with a set of boxes without duplicates, so that there is no NMS."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        query = cfg.MODEL.QUERY
        self.num_classes = query.NUM_CLASSES
        self.max_detections = cfg.TEST.DETECTIONS_PER_IMAGE
        self.transformer = Transformer(MaskedBackbone(cfg), query)
        self.scores = nn.Linear(query.CHANNELS, query.NUM_CLASSES)
        self.sides = nn.Sequential(
            nn.Linear(query.CHANNELS, query.CHANNELS), nn.ReLU(), nn.Linear(query.CHANNELS, 4)
        )
        nn.init.constant_(self.scores.bias, -4.6)  # one query in a hundred
        for name in ("PIXEL_MEAN", "PIXEL_STD"):
            value = torch.tensor(cfg.MODEL[name]).view(-1, 1, 1)
            self.register_buffer(name.lower(), value, False)

    def forward(self, batched_inputs: list[dict]):
        """Return losses in training, else `[{"instances": Instances}, ...]`, as in Detectron2."""
        device = self.pixel_mean.device
        images = [
            (x["image"].to(device) - self.pixel_mean) / self.pixel_std for x in batched_inputs
        ]
        batch = ImageList.from_tensors(images, self.transformer.backbone.backbone.size_divisibility)
        seen, places = self.transformer(batch)
        logits, boxes = self.scores(seen), self.boxes(self.sides(seen), places)
        # In pixels of the padded batch.
        height, width = batch.tensor.shape[-2:]
        boxes = boxes * boxes.new_tensor([width, height, width, height])
        if self.training:
            truth = [x["instances"].to(device) for x in batched_inputs]
            return self.losses(logits, boxes, truth)
        results = []
        for sample, size, *answer in zip(
            batched_inputs, batch.image_sizes, logits, boxes, strict=True
        ):
            found = self.detect(*answer, tuple(size))
            height, width = sample.get("height", size[0]), sample.get("width", size[1])
            results.append({"instances": detector_postprocess(found, height, width)})
        return results

    @staticmethod
    def boxes(sides: Tensor, places: Tensor) -> Tensor:
        """Return corners in shares of the image from what queries say of centre and size."""
        centre = (places.logit() + sides[..., :2]).sigmoid()
        half = (sides[..., 2:] - 2).sigmoid() / 2
        return torch.cat((centre - half, centre + half), dim=-1)

    def losses(self, logits: Tensor, boxes: Tensor, truth: list[Instances]) -> dict[str, Tensor]:
        """Match queries with objects one to one (DETR) and compare.

        Args:
            logits: [N, Q, num_classes].
            boxes: corners in pixels, [N, Q, 4].
            truth: ground truth of each image.
        """
        wanted = torch.zeros_like(logits)
        apart, overlap, count = boxes.sum() * 0, boxes.sum() * 0, 1
        for image, instances in enumerate(truth):
            true, labels = instances.gt_boxes.tensor, instances.gt_classes
            scale = boxes.new_tensor(instances.image_size).max()
            with torch.no_grad():
                cost = -2 * logits[image].sigmoid()[:, labels]
                cost += 5 * torch.cdist(boxes[image], true, p=1) / scale
                cost -= 2 * generalized_box_iou(boxes[image], true)
            rows, columns = map(torch.as_tensor, linear_sum_assignment(cost.cpu()))
            wanted[image, rows, labels[columns]] = 1
            mine, its = boxes[image, rows], true[columns]
            apart = apart + (mine - its).abs().sum() / scale
            overlap = overlap + (1 - generalized_box_iou(mine, its).diagonal()).sum()
            count += len(rows)
        focal = sigmoid_focal_loss(logits, wanted, reduction="sum")
        return {
            "loss_class": 2 * focal / count,
            "loss_l1": 5 * apart / count,
            "loss_giou": 2 * overlap / count,
        }

    def detect(self, logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> Instances:
        """Return the answers with the highest scores as boxes inside of `size`."""
        scores, order = logits.sigmoid().flatten().sort(descending=True)
        kept = order[: self.max_detections]
        found = Instances(size, scores=scores[: self.max_detections])
        found.pred_classes = kept % self.num_classes
        found.pred_boxes = Boxes(boxes[kept // self.num_classes])
        found.pred_boxes.clip(size)
        return found


VideoQueryDetector = make_video_arch(QueryDetector, backbone="transformer.backbone.backbone")
