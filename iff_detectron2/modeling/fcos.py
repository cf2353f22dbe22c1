"""Detectron2's FCOS, made by config keys: there it can be built from a LazyConfig only."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable
from detectron2.modeling import build_backbone

# Not exported by the 0.6 release, but at the same place.
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead


class ConfigurableFCOS(FCOS):
    """FCOS by the keys of the one-stage detector that Detectron2 has keys for, MODEL.RETINANET.

    IN_FEATURES, NUM_CLASSES, NUM_CONVS, NORM, PRIOR_PROB, FOCAL_LOSS_ALPHA, FOCAL_LOSS_GAMMA,
    SCORE_THRESH_TEST, TOPK_CANDIDATES_TEST and NMS_THRESH_TEST mean the same. Detectron2's own
    FCOS has GN for NORM, 0.2 for SCORE_THRESH_TEST and 0.6 for NMS_THRESH_TEST.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        keys = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        for name in keys.IN_FEATURES:
            if name not in shapes:
                raise ValueError(
                    f"MODEL.RETINANET.IN_FEATURES names {name!r}, which is not among the features "
                    f"of the backbone: {', '.join(shapes)}"
                )
        inputs = [shapes[name] for name in keys.IN_FEATURES]
        return {
            "backbone": backbone,
            "head": FCOSHead(
                input_shape=inputs,
                conv_dims=[inputs[0].channels] * keys.NUM_CONVS,
                num_classes=keys.NUM_CLASSES,
                norm=keys.NORM,
                prior_prob=keys.PRIOR_PROB,
            ),
            "head_in_features": keys.IN_FEATURES,
            "num_classes": keys.NUM_CLASSES,
            "focal_loss_alpha": keys.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": keys.FOCAL_LOSS_GAMMA,
            "test_score_thresh": keys.SCORE_THRESH_TEST,
            "test_topk_candidates": keys.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": keys.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
