"""R-FCN on Detectron2: position-sensitive heads over the two halves of the features (Sec. 3.4)."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, cat, ciou_loss, diou_loss
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
from detectron2.modeling.roi_heads import ROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.structures import Boxes, ImageList, Instances
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import ps_roi_pool

_IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def _new_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.constant_(conv.bias, 0)  # type: ignore[arg-type]
    return conv


@RPN_HEAD_REGISTRY.register()
class RFCNRPNHead(nn.Module):
    """RPN on the first half of the channels: a 1x1 classifier and a 1x1 regressor, nothing else."""

    @configurable
    def __init__(self, *, in_channels: int, num_anchors: int) -> None:
        """
        Args:
            in_channels: channels of the whole map; the first half of them is used.
            num_anchors: anchors a location.
        """
        super().__init__()
        self.channels = in_channels // 2
        self.objectness_logits = _new_conv(self.channels, num_anchors)
        self.anchor_deltas = _new_conv(self.channels, num_anchors * 4)

    @classmethod
    def from_config(cls, cfg, input_shape: list[ShapeSpec]):
        num_anchors = build_anchor_generator(cfg, input_shape).num_anchors
        return {"in_channels": input_shape[0].channels, "num_anchors": num_anchors[0]}

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map each [N, C, H, W] to objectness [N, A, H, W] and deltas [N, 4 A, H, W]."""
        halves = [x[:, : self.channels] for x in features]
        return [self.objectness_logits(x) for x in halves], [self.anchor_deltas(x) for x in halves]


class RFCNOutputLayers(FastRCNNOutputLayers):
    """Fast R-CNN's two output layers as position-sensitive maps, pooled and averaged.

    Losses and inference are Detectron2's; the box regression is class-agnostic.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, pooler_resolution: int, spatial_scale: float, **kwargs
    ) -> None:
        """
        Args:
            input_shape: channels of the map that the layers read.
            pooler_resolution: bins a side, k.
            spatial_scale: cells of the map per pixel of the image.
            kwargs: those of `FastRCNNOutputLayers`.
        """
        super().__init__(input_shape, **kwargs)
        bins = pooler_resolution**2
        self.pooler_resolution = pooler_resolution
        self.spatial_scale = spatial_scale
        self.cls_score = _new_conv(input_shape.channels, bins * (self.num_classes + 1))
        self.bbox_pred = _new_conv(input_shape.channels, bins * 4)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec):
        if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
            raise ValueError("R-FCN needs MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True")
        ret = super().from_config(cfg, input_shape)
        ret["pooler_resolution"] = cfg.MODEL.RFCN.POOLER_RESOLUTION
        ret["spatial_scale"] = 1.0 / input_shape.stride
        return ret

    def forward(self, x: Tensor, boxes: list[Boxes]) -> tuple[Tensor, Tensor]:
        """Scores regions.

        Args:
            x: features [N, C, H, W].
            boxes: regions of each image, in pixels; R in all.

        Returns:
            Class scores [R, K + 1], background last, and box deltas [R, 4].
        """
        rois = cat(
            [cat((torch.full_like(b.tensor[:, :1], i), b.tensor), 1) for i, b in enumerate(boxes)]
        )
        # One pooling for the maps of both layers, whose bins are the same.
        maps = torch.cat((self.cls_score(x), self.bbox_pred(x)), dim=1)
        pooled = ps_roi_pool(maps, rois, self.pooler_resolution, self.spatial_scale).mean((2, 3))
        return pooled[:, : self.num_classes + 1], pooled[:, self.num_classes + 1 :]

    def class_losses(self, scores: Tensor, classes: Tensor) -> Tensor:
        """Compute what each region adds to `loss_cls`.

        Args:
            scores: class scores [R, K + 1].
            classes: true classes [R], K for the background.

        Returns:
            [R] in float32, of all classes where the federated loss trains a part of them.
        """
        if not getattr(self, "use_sigmoid_ce", False):  # which Detectron2 0.6 does not have
            return F.cross_entropy(scores.float(), classes, reduction="none")
        target = F.one_hot(classes, self.num_classes + 1)[:, :-1].float()
        logits = scores[:, :-1].float()
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(dim=1)

    def box_losses(self, deltas: Tensor, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
        """Compute what each region adds to `loss_box_reg`.

        Args:
            deltas: predicted for the regions, [R, 4].
            boxes: the regions, [R, 4] in pixels.
            gt_boxes: their objects, [R, 4] in pixels.

        Returns:
            [R] in the type of the deltas.
        """
        if self.box_reg_loss_type in _IOU_LOSSES:
            predicted = self.box2box_transform.apply_deltas(deltas, boxes)
            return _IOU_LOSSES[self.box_reg_loss_type](predicted, gt_boxes, reduction="none")
        target = self.box2box_transform.get_deltas(boxes, gt_boxes)
        return smooth_l1_loss(deltas, target, self.smooth_l1_beta).sum(dim=1)


@ROI_HEADS_REGISTRY.register()
class RFCNROIHeads(ROIHeads):
    """R-FCN's heads on the second half of the channels, trained by online hard example mining."""

    @configurable
    def __init__(
        self, *, in_feature: str, box_predictor: RFCNOutputLayers, ohem_topk: int, **kwargs
    ) -> None:
        """
        Args:
            in_feature: name of the map to read.
            box_predictor: the output layers.
            ohem_topk: regions an image with the largest loss that are trained on; 0 for all.
            kwargs: those of `ROIHeads`.
        """
        super().__init__(**kwargs)
        self.in_feature = in_feature
        self.box_predictor = box_predictor
        self.ohem_topk = ohem_topk

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        ret = super().from_config(cfg)
        in_features = cfg.MODEL.ROI_HEADS.IN_FEATURES
        if len(in_features) != 1 or in_features[0] not in input_shape:
            raise ValueError(
                "MODEL.ROI_HEADS.IN_FEATURES must name one feature map of the backbone "
                f"({', '.join(input_shape)}), got {list(in_features)}"
            )
        shape = input_shape[in_features[0]]
        half = ShapeSpec(channels=shape.channels - shape.channels // 2, stride=shape.stride)
        ret["in_feature"] = in_features[0]
        ret["box_predictor"] = RFCNOutputLayers(cfg, half)
        ret["ohem_topk"] = cfg.MODEL.RFCN.OHEM_TOPK
        return ret

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Labels all proposals and draws none at random: hard examples are mined afterwards."""
        if gt_classes.numel():
            labels = gt_classes[matched_idxs].masked_fill(matched_labels == 0, self.num_classes)
        else:
            labels = torch.full_like(matched_idxs, self.num_classes)
        sampled = torch.arange(len(labels), device=labels.device)
        if gt_classes.numel():
            sampled = sampled[matched_labels != -1]
        return sampled, labels[sampled]

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`detectron2.modeling.ROIHeads.forward`."""
        x = features[self.in_feature]
        x = x[:, x.shape[1] // 2 :]
        if not self.training:
            predictions = self.box_predictor(x, [p.proposal_boxes for p in proposals])
            return self.box_predictor.inference(predictions, proposals)[0], {}
        if targets is None:
            raise ValueError("training samples need instances; got none")
        proposals = self.label_and_sample_proposals(proposals, targets)
        predictions = self.box_predictor(x, [p.proposal_boxes for p in proposals])
        predictions, proposals = self.mine_hard_examples(predictions, proposals)
        return proposals, self._losses(predictions, proposals)

    def _losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Means over images, so that it does not matter which images share a batch or a GPU."""
        counts = [len(p) for p in proposals]
        images = zip(*(x.split(counts) for x in predictions), proposals, strict=True)
        losses = [self.box_predictor.losses((s, d), [p]) for s, d, p in images]
        return {name: torch.stack([loss[name] for loss in losses]).mean() for name in losses[0]}

    @torch.no_grad()
    def _region_losses(self, scores: Tensor, deltas: Tensor, proposals: Instances) -> Tensor:
        """Loss of each region of one image as it is trained, up to a common factor, [R]."""
        predictor = self.box_predictor
        classes = proposals.gt_classes
        loss = predictor.loss_weight.get("loss_cls", 1.0) * predictor.class_losses(scores, classes)
        foreground = classes < self.num_classes
        if foreground.any():
            boxes = (x.tensor[foreground] for x in (proposals.proposal_boxes, proposals.gt_boxes))
            box_loss = predictor.box_losses(deltas[foreground].float(), *boxes)
            loss[foreground] += predictor.loss_weight.get("loss_box_reg", 1.0) * box_loss
        return loss

    def mine_hard_examples(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[tuple[Tensor, Tensor], list[Instances]]:
        """Keep in each image the regions with the largest loss (OHEM, as in R-FCN and FGFA)."""
        if not self.ohem_topk:
            return predictions, proposals
        counts = [len(p) for p in proposals]
        scores, deltas = (x.split(counts) for x in predictions)
        kept_scores, kept_deltas, kept = [], [], []
        for s, d, p in zip(scores, deltas, proposals, strict=True):
            hard = self._region_losses(s, d, p).topk(min(self.ohem_topk, len(p))).indices
            kept_scores.append(s[hard])
            kept_deltas.append(d[hard])
            kept.append(p[hard])
        return (cat(kept_scores), cat(kept_deltas)), kept
