"""A small anchor-free detector that is not Detectron2's: objects are peaks of a map of centres.

It knows nothing of video. The last lines make its video version, which is all there is to do.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, batched_nms
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone, detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.modeling import make_video_arch


def add_center_config(cfg: CfgNode) -> None:
    """Add the keys of this detector to a Detectron2 config, in place."""
    cfg.MODEL.CENTER = CfgNode()
    # The feature map of the backbone to detect on.
    cfg.MODEL.CENTER.IN_FEATURE = "p3"
    cfg.MODEL.CENTER.NUM_CLASSES = 80
    cfg.MODEL.CENTER.CHANNELS = 64
    cfg.MODEL.CENTER.SCORE_THRESH_TEST = 0.01
    cfg.MODEL.CENTER.NMS_THRESH_TEST = 0.6


@META_ARCH_REGISTRY.register()
class CenterDetector(nn.Module):
    """Predicts at each cell of one feature map, for each class, whether an object's centre is
    there, and the distances from the cell to the four sides of its box."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_feature: str,
        num_classes: int,
        channels: int,
        score_thresh: float,
        nms_thresh: float,
        max_detections: int,
        pixel_mean: list[float],
        pixel_std: list[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_feature = in_feature
        self.num_classes = num_classes
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.max_detections = max_detections
        shape = backbone.output_shape()[in_feature]
        self.stride = shape.stride
        self.tower = nn.Sequential(
            Conv2d(shape.channels, channels, 3, padding=1, activation=F.relu),
            Conv2d(channels, channels, 3, padding=1, activation=F.relu),
        )
        self.centers = nn.Conv2d(channels, num_classes, 1)
        self.sides = nn.Conv2d(channels, 4, 1)
        nn.init.constant_(self.centers.bias, -4.6)  # one cell in a hundred
        nn.init.constant_(self.sides.bias, 1.0)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        center = cfg.MODEL.CENTER
        return {
            "backbone": build_backbone(cfg),
            "in_feature": center.IN_FEATURE,
            "num_classes": center.NUM_CLASSES,
            "channels": center.CHANNELS,
            "score_thresh": center.SCORE_THRESH_TEST,
            "nms_thresh": center.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalises, pads and batches the images."""
        images = [x["image"].to(self.device) for x in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def forward(self, batched_inputs: list[dict]):
        """Return losses in training, else `[{"instances": Instances}, ...]`, as in Detectron2."""
        images = self.preprocess_image(batched_inputs)
        features = self.tower(self.backbone(images.tensor)[self.in_feature])
        logits, sides = self.centers(features), self.sides(features).exp() * self.stride
        if self.training:
            return self.losses(logits, sides, [x["instances"] for x in batched_inputs])
        results = []
        for sample, size, *maps in zip(
            batched_inputs, images.image_sizes, logits, sides, strict=True
        ):
            found = self.detect(*maps, size)
            height, width = sample.get("height", size[0]), sample.get("width", size[1])
            results.append({"instances": detector_postprocess(found, height, width)})
        return results

    def cells(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Image coordinates x and y of the middles of the cells of maps [..., H, W]."""
        ys, xs = (
            (torch.arange(n, device=maps.device, dtype=torch.float32) + 0.5) * self.stride
            for n in maps.shape[-2:]
        )
        y, x = torch.meshgrid(ys, xs, indexing="ij")
        return x, y

    def losses(self, logits: Tensor, sides: Tensor, truth: list[Instances]) -> dict[str, Tensor]:
        """Focal loss on the centres, softened around them (CenterNet), and GIoU of the boxes.

        Args:
            logits: [N, num_classes, H, W].
            sides: distances to the left, upper, right and lower side in pixels, [N, 4, H, W].
            truth: ground truth of each image.
        """
        x, y = self.cells(logits)
        heat, boxes, weights = torch.zeros_like(logits), torch.zeros_like(sides), []
        for image, instances in enumerate(truth):
            weight = torch.zeros_like(x)
            boxes_of_image = instances.gt_boxes.tensor.to(self.device)
            # Small objects last: where boxes overlap the cell belongs to the smaller.
            areas = (boxes_of_image[:, 2:] - boxes_of_image[:, :2]).prod(dim=1)
            for index in areas.argsort(descending=True).tolist():
                box, label = boxes_of_image[index], int(instances.gt_classes[index])
                center, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
                near = ((x - center[0]) / size[0]) ** 2 + ((y - center[1]) / size[1]) ** 2
                bell = torch.exp(-near / (2 * 0.15**2))
                # The cell with the centre in it is positive itself.
                bell = torch.where(near == near.min(), torch.ones_like(bell), bell)
                heat[image, label] = torch.maximum(heat[image, label], bell)
                inner = bell > 0.4
                boxes[image, :, inner] = box[:, None]
                weight = torch.where(inner, bell, weight)
            weights.append(weight)
        share = torch.stack(weights)
        chance = logits.sigmoid()
        positive = heat == 1
        focal = torch.where(
            positive,
            -((1 - chance) ** 2) * F.logsigmoid(logits),
            -((1 - heat) ** 4) * chance**2 * F.logsigmoid(-logits),
        )
        predicted = torch.stack(
            (x - sides[:, 0], y - sides[:, 1], x + sides[:, 2], y + sides[:, 3])
        )
        overlap = giou(predicted, boxes.transpose(0, 1))
        return {
            "loss_center": focal.sum() / positive.sum().clamp(min=1),
            "loss_box": (share * (1 - overlap)).sum() / share.sum().clamp(min=1),
        }

    def detect(self, logits: Tensor, sides: Tensor, size: tuple[int, int]) -> Instances:
        """Turn the peaks of one image into boxes inside of `size` (height, width)."""
        peaks = F.max_pool2d(logits[None], 3, stride=1, padding=1)[0]
        scores = torch.where(logits == peaks, logits.sigmoid(), torch.zeros_like(logits))
        labels, rows, columns = (scores > self.score_thresh).nonzero(as_tuple=True)
        x, y = ((cells[rows, columns]) for cells in self.cells(logits))
        left, upper, right, lower = sides[:, rows, columns]
        found = Instances(size)
        found.pred_boxes = Boxes(torch.stack((x - left, y - upper, x + right, y + lower), dim=1))
        found.pred_boxes.clip(size)
        found.scores = scores[labels, rows, columns]
        found.pred_classes = labels
        kept = batched_nms(found.pred_boxes.tensor, found.scores, labels, self.nms_thresh)
        return found[kept[: self.max_detections]]


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of boxes x1, y1, x2, y2 along the first dimension, [4, ...] each."""
    inside = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0).prod(dim=0)
    around = (torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])).prod(dim=0)
    union = (a[2:] - a[:2]).prod(dim=0) + (b[2:] - b[:2]).prod(dim=0) - inside
    return inside / union.clamp(min=1e-6) - (around - union) / around.clamp(min=1e-6)


VideoCenterDetector = make_video_arch(CenterDetector)
