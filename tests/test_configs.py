"""The paper's settings, read from the configs as they are after inheritance."""

import pytest
from toy_models import CONFIGS

from iff_detectron2.engine import load_config

PAPER = {
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 6000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 300,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 300,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.RPN.IOU_THRESHOLDS": [0.3, 0.7],
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.POSITIVE_FRACTION": 0.5,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[128, 256, 512]],
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "MODEL.RFCN.POOLER_RESOLUTION": 7,
    "MODEL.RFCN.OHEM_TOPK": 128,
    "MODEL.ROI_HEADS.NUM_CLASSES": 30,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5],
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.001,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.3,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    "MODEL.BACKBONE.FREEZE_AT": 2,
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.IFF.TRL.WEIGHT": 0.65,
    "MODEL.IFF.FLOW.MAX_DISPLACEMENT": 10,
    "MODEL.IFF.FLOW.CORRELATION_STRIDE": 2,
    "MODEL.IFF.FUSE_KEY_FRAME": True,
    "DATASETS.TRAIN": ("imagenet_det_30cls_train", "imagenet_vid_train"),
    "DATASETS.TEST": ("imagenet_vid_val",),
    "INPUT.MIN_SIZE_TRAIN": (600,),
    "INPUT.MAX_SIZE_TRAIN": 1000,
    "INPUT.MIN_SIZE_TEST": 600,
    "INPUT.MAX_SIZE_TEST": 1000,
    "INPUT.VIDEO.NUM_REFS": 2,
    "INPUT.VIDEO.MAX_OFFSET": 10,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": (71250,),
    "SOLVER.MAX_ITER": 120000,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 0.0005,
    "SOLVER.WARMUP_ITERS": 0,
    "TEST.DETECTIONS_PER_IMAGE": 300,
    "TEST.VIDEO.NUM_REFS": 20,
    "TEST.VIDEO.STRIDE": 1,
    "TEST.VIDEO.CAUSAL": False,
    "TEST.VIDEO.PROTOCOL": "fgfa",
}


def value(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def test_iff_net_c_has_the_settings_of_the_paper():
    cfg = load_config(str(CONFIGS / "ImageNetVID/iff_net_C_R_101.yaml"))
    got = {key: value(cfg, key) for key in PAPER}
    assert {k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in got.items()} == {
        k: tuple(v) if isinstance(v, (list, tuple)) else v for k, v in PAPER.items()
    }


def test_the_baseline_differs_in_time_alone():
    rfcn, iff = (
        load_config(str(CONFIGS / f"ImageNetVID/{name}_R_101.yaml"))
        for name in ("rfcn", "iff_net_C")
    )
    differing = {key for key in PAPER if value(rfcn, key) != value(iff, key)}
    assert differing == {"INPUT.VIDEO.NUM_REFS", "TEST.VIDEO.NUM_REFS"}
    assert rfcn.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"


@pytest.mark.parametrize("config", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_read(config, clean_catalogs):
    assert load_config(str(config)).MODEL.BACKBONE.NAME == "build_dilated_resnet_backbone"
