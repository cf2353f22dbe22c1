"""The detectors that `check_detector.py` was tried on, and the words that it was called with."""

from __future__ import annotations

FPN_WITHOUT_P6 = "MODEL.IFF.IN_FEATURES \"['p2','p3','p4','p5']\""
POINT_REND = (
    "--import detectron2.projects.point_rend:add_pointrend_config MODEL.ROI_MASK_HEAD.NAME "
    "PointRendMaskHead MODEL.ROI_MASK_HEAD.POOLER_TYPE '' MODEL.ROI_MASK_HEAD.POINT_HEAD_ON True "
    "INPUT.MASK_FORMAT bitmask MODEL.POINT_HEAD.NUM_CLASSES 5 MODEL.POINT_HEAD.FC_DIM 32"
)
LAZY_FCOS = "model.head.conv_dims=[256] model.test_score_thresh=0.0 model.test_topk_candidates=50"
LAZY_VITDET = (
    "model.backbone.net.img_size=96 model.backbone.square_pad=96 model.backbone.net.embed_dim=16 "
    "model.backbone.net.depth=2 model.backbone.net.num_heads=2 model.backbone.net.window_size=3 "
    "model.backbone.net.window_block_indexes=[0] model.proposal_generator.pre_nms_topk=[50,20] "
    "model.proposal_generator.post_nms_topk=[20,10] model.roi_heads.batch_size_per_image=8 "
    "model.roi_heads.box_predictor.test_score_thresh=0.0 "
    "model.roi_heads.box_predictor.test_topk_per_image=5"
)
ZOO = {
    "Faster R-CNN, C4": "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml --tiny",
    "Faster R-CNN, DC5": "COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml --tiny",
    "Faster R-CNN, FPN": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml --tiny",
    "RPN alone": "COCO-Detection/rpn_R_50_FPN_1x.yaml --tiny",
    "RetinaNet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml --tiny",
    "FCOS, LazyConfig": f"COCO-Detection/fcos_R_50_FPN_1x.py --tiny {LAZY_FCOS}",
    "Mask R-CNN, FPN": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml --tiny",
    "Mask R-CNN, C4": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml --tiny",
    "PointRend": f"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml --tiny {POINT_REND}",
    "Keypoint R-CNN": "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml --tiny",
    "Cascade Mask R-CNN": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml --tiny",
    "PanopticFPN": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml --tiny",
    "SemanticSegmentor": f"Misc/semantic_R_50_FPN_1x.yaml --tiny {FPN_WITHOUT_P6}",
    "ViTDet, LazyConfig": f"common/models/mask_rcnn_vitdet.py --tiny {LAZY_VITDET}",
}
# Of tests/foreign_detectors.py: PYTHONPATH=tests.
FOREIGN = "--import foreign_detectors --tiny MODEL.ROI_HEADS.NUM_CLASSES 3 MODEL.BACKBONE.NAME"
PLAIN = f"{FOREIGN} TinyBackbone"
BRANCHING = f"Branching --branches {FOREIGN}"
STYLES = {
    "constructor that takes a config alone": f"ConfigAlone {PLAIN}",
    "`preprocess_image` that returns a tuple": f"TuplePreprocess {PLAIN}",
    "masks from the batch size, nested backbone": f"MaskedTransformer {PLAIN}",
    "square padding of its own, normalising inside `forward`": f"OwnPadding {PLAIN}",
    "no attribute `backbone`, statistics of the batch in the head": f"HiddenBackbone {PLAIN}",
    "`sem_seg` alone": f"Segmenter {PLAIN}",
    "panoptic, semantic, proposals, `instances` on every second frame": f"Panoptic {PLAIN}",
    "several maps per image in training": f"{BRANCHING} BranchingBackbone",
    "several maps per image always": f"{BRANCHING} AlwaysBranchingBackbone",
}
TRIED = {**ZOO, **STYLES}
