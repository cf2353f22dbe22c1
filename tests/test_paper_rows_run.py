"""Every row of the paper as the command line runs it: two steps and an evaluation, scaled down."""

import json
import math

import pytest
import torch
from test_paper_rows import ROWS
from toy_models import CONFIGS

from iff_detectron2.engine import VideoTrainer, launch_from_command_line, load_config

pytestmark = pytest.mark.slow

SMALL = [
    *("MODEL.DEVICE", "cpu", "SOLVER.MAX_ITER", "2", "DATALOADER.NUM_WORKERS", "0"),
    *("MODEL.DILATED_RESNET.NUM_BLOCKS", "[1,1,3,3]"),
    *("MODEL.DILATED_RESNET.REDUCTION_CHANNELS", "32"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.IFF.FLOW.CHANNELS", "16", "MODEL.IFF.FLOW.PAIR_CHANNELS", "8"),
    *("MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS", "8", "MODEL.IFF.EMBEDDING.CHANNELS", "16"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[16, 32, 48]]", "MODEL.RPN.POST_NMS_TOPK_TEST", "30"),
    *("INPUT.MIN_SIZE_TRAIN", "(72,)", "INPUT.MAX_SIZE_TRAIN", "96"),
    *("INPUT.MIN_SIZE_TEST", "72", "INPUT.MAX_SIZE_TEST", "96"),
]
LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


@pytest.fixture
def imagenet(tiny_vid, monkeypatch):
    """Return a tree in the layout of ImageNet with two videos, 15 listed frames or fewer, and
    stills."""
    root = tiny_vid(lengths=(7, 5), every=2, stills=3)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(root.parent))
    return root


@pytest.mark.parametrize("name", [*ROWS, "iff_net_C_R_101_vid_only"])
def test_two_steps_and_an_evaluation(name, imagenet, tmp_path):
    row = ROWS.get(name, ROWS["iff_net_C_R_101"])
    config = str(CONFIGS / "ImageNetVID" / f"{name}.yaml")
    weights = tmp_path / "weights.pth"
    start = VideoTrainer.build_model(load_config(config, [*SMALL, "MODEL.WEIGHTS", ""]))
    torch.save({"model": start.state_dict()}, weights)
    output = tmp_path / "output"
    opts = [*SMALL, "MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(output)]
    launch_from_command_line(argv=["--config-file", config, *opts])
    saved = json.loads((output / "inference/imagenet_vid_val/results.json").read_text())
    assert saved["num_frames"] == 12
    assert {"mAP50", "mAP50-slow", "mAP50-medium", "mAP50-fast"} <= set(saved["bbox"])
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    names = set().union(*rows)
    assert names >= LOSSES
    assert ("loss_trl" in names) == row.trl
    assert all(math.isfinite(v) for r in rows for k, v in r.items() if k.startswith("loss"))
    trained = torch.load(output / "model_final.pth", weights_only=True)["model"]
    moved = {n for n, value in start.state_dict().items() if not torch.equal(value, trained[n])}
    trainable = {n for n, p in start.named_parameters() if p.requires_grad}
    # What lies before a flow that starts at zero, or reads at offsets of zero, gets its first
    # gradient at the second step; the rest moves at the first.
    assert moved <= trainable
    assert {n for n in trainable if n.startswith("backbone.res5.")} <= moved
    if row.flow is not None and not row.frozen_flow:
        assert any(".flow_estimator." in n for n in moved)
