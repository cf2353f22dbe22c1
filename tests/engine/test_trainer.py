import pytest
import torch
from toy_models import build, tiny_cfg

from iff_detectron2.engine import VideoTrainer


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_flow_layers_learn_at_their_own_rate(factor):
    model = build(tiny_cfg())
    rates = ("MODEL.IFF.FLOW.LR_FACTOR", factor, "MODEL.IFF.FLOW.ADAMW_LR", 0.0)
    cfg = tiny_cfg(*rates, "SOLVER.BASE_LR", 0.5)
    optimizer = VideoTrainer.build_optimizer(cfg, model)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert len(rate) == len(trainable)
    for name, parameter in trainable.items():
        expected = 0.5 * factor if ".flow_estimator." in name else 0.5
        assert rate[id(parameter)] == pytest.approx(expected), name


def test_unknown_evaluator_type_is_explained(clean_catalogs):
    from detectron2.data import MetadataCatalog

    MetadataCatalog.get("odd_set").set(evaluator_type="lvis")
    with pytest.raises(ValueError, match="'odd_set' has evaluator_type 'lvis'"):
        VideoTrainer.build_evaluator(tiny_cfg(), "odd_set")


def test_evaluation_keys_reach_the_evaluator(tiny_vid, clean_catalogs, tmp_path):
    from detectron2.data import DatasetCatalog
    from detectron2.structures import Boxes, Instances

    from iff_detectron2.data import register_imagenet_vid

    register_imagenet_vid("keys_val", tiny_vid(), "VID_val_videos")
    keys = ("TEST.VIDEO.AREA_RANGES", True, "TEST.VIDEO.PROTOCOL", "devkit")
    cfg = tiny_cfg(*keys, "OUTPUT_DIR", str(tmp_path / "output"))
    evaluator = VideoTrainer.build_evaluator(cfg, "keys_val")
    nothing = Instances(
        (48, 64),
        pred_boxes=Boxes(torch.zeros(0, 4)),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )
    evaluator.reset()
    for sample in DatasetCatalog.get("keys_val"):
        evaluator.process([sample], [{"instances": nothing}])
    metrics = evaluator.evaluate()["bbox"]
    assert metrics["mAP50-area-small"] == 0.0
    assert "mAP50-slow" not in metrics
    with pytest.raises(FileNotFoundError, match=r"none\.mat does not exist"):
        VideoTrainer.build_evaluator(tiny_cfg("TEST.VIDEO.MOTION_IOU_FILE", "none.mat"), "keys_val")


@pytest.mark.parametrize(("processes", "warmup"), [(2, 200), (8, 50), (4, 100)])
def test_the_warmup_of_the_alignment_loss_is_scaled_with_the_schedule(processes, warmup):
    schedule = ("SOLVER.REFERENCE_WORLD_SIZE", 4, "SOLVER.IMS_PER_BATCH", 8)
    cfg = tiny_cfg(*schedule, "SOLVER.WARMUP_ITERS", 100, "MODEL.IFF.TRL.WARMUP_ITERS", 100)
    scaled = VideoTrainer.auto_scale_workers(cfg, processes)
    assert scaled.SOLVER.WARMUP_ITERS == scaled.MODEL.IFF.TRL.WARMUP_ITERS == warmup
    assert cfg.MODEL.IFF.TRL.WARMUP_ITERS == 100
