import pytest
from toy_models import build, tiny_cfg

from iff_detectron2.engine import VideoTrainer


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_flow_layers_learn_at_their_own_rate(factor):
    model = build(tiny_cfg())
    cfg = tiny_cfg("MODEL.IFF.FLOW.LR_FACTOR", factor, "SOLVER.BASE_LR", 0.5)
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
