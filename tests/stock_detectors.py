"""Detectron2's own configs, narrowed to a size that a test can train, as plain and video models.

Depth, strides, heads and names stay as in the stock file; channels, classes and proposals shrink.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from torch import Tensor, nn
from toy_models import window_sample

from iff_detectron2 import add_iff_config
from iff_detectron2.modeling.fcos import ConfigurableFCOS

# Shipped with Detectron2; read without `model_zoo`, which needs an old setuptools.
STOCK = Path(detectron2.__file__).parent / "model_zoo" / "configs"
CONFIGS = {
    "COCO-Detection/faster_rcnn_R_50_FPN_1x": "VideoGeneralizedRCNN",
    "COCO-Detection/faster_rcnn_R_50_C4_1x": "VideoGeneralizedRCNN",
    "COCO-Detection/faster_rcnn_R_50_DC5_1x": "VideoGeneralizedRCNN",
    "COCO-Detection/fast_rcnn_R_50_FPN_1x": "VideoGeneralizedRCNN",
    "COCO-Detection/retinanet_R_50_FPN_1x": "VideoRetinaNet",
    "COCO-Detection/rpn_R_50_FPN_1x": "VideoProposalNetwork",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x": "VideoGeneralizedRCNN",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x": "VideoGeneralizedRCNN",
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x": "VideoGeneralizedRCNN",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x": "VideoPanopticFPN",
    "Misc/cascade_mask_rcnn_R_50_FPN_1x": "VideoGeneralizedRCNN",
    "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn": "VideoGeneralizedRCNN",
    "Misc/semantic_R_50_FPN_1x": "VideoSemanticSegmentor",
    # Detectron2 has FCOS in code only: made from the config of the other one-stage detector.
    "FCOS": "VideoFCOS",
}
# Maps that no head of these reads are left out: nothing would train their aggregators.
MAPS = {name: ["p2", "p3", "p4", "p5"] for name in CONFIGS if "fast_" in name or "semantic" in name}
WITH_WEIGHTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
CLASSES = 5
HEIGHT, WIDTH = 49, 65
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.PIXEL_STD", [57.375, 57.12, 58.395]),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 32, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 32, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100, "MODEL.RPN.PRE_NMS_TOPK_TEST", 100),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 40, "MODEL.RPN.POST_NMS_TOPK_TEST", 20),
    *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_HEADS.NUM_CLASSES", CLASSES, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.CONV_DIM", 32),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32, "MODEL.ROI_MASK_HEAD.NUM_CONV", 1),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [32, 32]),
    *("MODEL.RETINANET.NUM_CLASSES", CLASSES, "MODEL.RETINANET.NUM_CONVS", 1),
    *("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "TEST.DETECTIONS_PER_IMAGE", 10),
    *("MODEL.IFF.FLOW.CHANNELS", 8, "MODEL.IFF.FLOW.PAIR_CHANNELS", 8),
    *("MODEL.IFF.FLOW.MAX_DISPLACEMENT", 2, "MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS", 8),
    *("MODEL.IFF.EMBEDDING.CHANNELS", 8, "TEST.VIDEO.NUM_REFS", 2),
]


def stock_cfg(name: str, *opts: Any) -> CfgNode:
    """Return the stock config `name`, narrow, with the video meta-architecture that fits."""
    cfg = get_cfg()
    add_iff_config(cfg)
    file = "COCO-Detection/retinanet_R_50_FPN_1x" if name == "FCOS" else name
    cfg.merge_from_file(str(STOCK / f"{file}.yaml"))
    cfg.merge_from_list([*SMALL, "MODEL.META_ARCHITECTURE", CONFIGS[name], *opts])
    cfg.MODEL.IFF.IN_FEATURES = MAPS.get(name, [])
    return cfg


def build_video(cfg: CfgNode, seed: int = 0) -> nn.Module:
    """Return the video model on random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return build_model(cfg).eval()


def build_plain(cfg: CfgNode, seed: int = 0) -> nn.Module:
    """Build a video config's plain detector, on weights whose outputs differ between boxes."""
    cfg = cfg.clone()
    name = cfg.MODEL.META_ARCHITECTURE.removeprefix("Video")
    torch.manual_seed(seed)
    if name == "FCOS":
        model: nn.Module = ConfigurableFCOS(cfg)
    else:
        cfg.MODEL.META_ARCHITECTURE = name
        model = build_model(cfg)
    for path, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d) and path.endswith("conv3.norm"):
            module.weight.fill_(0.3)  # else each of the sixteen blocks adds its input's variance
        near_zero = isinstance(module, WITH_WEIGHTS) and module.weight.std() < 0.02
        if near_zero and not path.startswith("backbone"):
            # So Detectron2 starts its predictors, and then all scores are alike.
            nn.init.normal_(module.weight, std=0.02 if "bbox" in path else 0.1)
    if name == "FCOS":
        nn.init.ones_(model.head.bbox_pred.bias)  # negative distances make no box
    return model.eval()


def add_proposals(sample: dict) -> dict:
    """Add what detectors without an RPN are given."""
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(20, 2, generator=generator) * torch.tensor([WIDTH - 35, HEIGHT - 35])
    size = 10 + 25 * torch.rand(20, 2, generator=generator)
    proposals = Instances((HEIGHT, WIDTH))
    proposals.proposal_boxes = Boxes(torch.cat((low, low + size), dim=1))
    proposals.objectness_logits = torch.rand(20, generator=generator)
    return {**sample, "proposals": proposals}


def training_sample(clip: list[Tensor], t: int, offsets: tuple[int, ...]) -> dict:
    """Return a sample with ground truth of every kind that a stock detector learns from."""
    sample = add_proposals(window_sample(clip, t, offsets))
    boxes = torch.tensor([[3.0, 4.0, 28.0, 40.0], [25.0, 12.0, 60.0, 45.0]])
    instances = Instances((HEIGHT, WIDTH))
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.tensor([0, CLASSES - 1])
    instances.gt_masks = PolygonMasks(
        [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
    )
    share = torch.linspace(0.1, 0.9, 17)[None, :, None]
    points = boxes[:, None, :2] + share * (boxes[:, None, 2:] - boxes[:, None, :2])
    instances.gt_keypoints = Keypoints(torch.cat((points, torch.full((2, 17, 1), 2.0)), dim=2))
    sem_seg = torch.zeros(HEIGHT, WIDTH, dtype=torch.long)
    sem_seg[4:40, 3:28] = 1
    return {**sample, "instances": instances, "sem_seg": sem_seg}


def tensors(output: dict) -> dict[str, Tensor]:
    """All numbers of a detector's output for one frame, by name."""
    found = {}
    for name, value in output.items():
        if isinstance(value, Instances):
            for field, content in value.get_fields().items():
                found[field] = content.tensor if isinstance(content, Boxes) else content
        elif isinstance(value, tuple):  # panoptic segmentation and its segments
            found[name] = value[0]
        else:
            found[name] = value
    return found
