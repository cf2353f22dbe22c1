"""LazyConfigs in VideoPredictor, `predict` and training: this package's and Detectron2's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from toy_models import ROOT
from video_runs import make_frames, write_frames

from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2.engine import VideoPredictor, load_config, load_lazy_config
from iff_detectron2.engine.lazy_config import yacs_of
from iff_detectron2.modeling import VideoFCOS, temporal_for
from iff_detectron2.structures import TemporalWindow
from iff_detectron2_cli.main import main

FCOS = str(ROOT / "projects/FCOS/iff_fcos.py")
QUICK = [
    *("model.test_topk_candidates=20", "model.max_detections_per_image=5"),
    *("model.test_score_thresh=0.0", "model.temporal.window.num_refs=2"),
]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Save weights of the config's model whose flow moves."""
    torch.manual_seed(0)
    model = instantiate(load_lazy_config(FCOS, QUICK).model)
    path = tmp_path / "weights.pth"
    torch.save({"model": model.state_dict()}, path)
    return path


def test_what_a_run_asks_of_it():
    cfg = yacs_of(load_lazy_config(FCOS, [*QUICK, "video.AMP=bfloat16"]))
    assert (cfg.TEST.VIDEO.NUM_REFS, cfg.TEST.VIDEO.CAUSAL, cfg.TEST.VIDEO.AMP) == (
        2,
        False,
        "bfloat16",
    )
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (112, 160)
    assert cfg.DATASETS.TEST == ("moving_shapes_val",)
    assert cfg.MODEL.DEVICE == "cpu"
    other = yacs_of(load_lazy_config(FCOS, [*QUICK, "model.num_classes=3"]))
    assert cfg.dump() != other.dump(), "a journal tells runs of two models apart by this"


def test_a_predictor_gives_what_the_model_gives(weights):
    cfg = load_lazy_config(FCOS, [*QUICK, f"train.init_checkpoint='{weights}'"])
    frames = make_frames(4)
    found = {index: instances for index, _, instances in VideoPredictor(cfg)(frames)}
    model = instantiate(cfg.model).eval()
    model.load_state_dict(torch.load(weights, weights_only=True)["model"])
    model.temporal.streaming = False
    (resize,) = [instantiate(a) for a in cfg.dataloader.test.mapper.augmentations]
    shape = frames[0].shape[:2]
    sized = [resize.get_transform(f).apply_image(f) for f in frames]
    images = [torch.from_numpy(np.ascontiguousarray(s.transpose(2, 0, 1))) for s in sized]
    for t in range(4):
        refs = [min(max(t + offset, 0), 3) for offset in (-1, 1)]
        sample = {"image": images[t], "height": shape[0], "width": shape[1]}
        sample |= {"ref_images": [images[r] for r in refs], "ref_offsets": [-1, 1]}
        with torch.no_grad():
            (wanted,) = model([sample])
        torch.testing.assert_close(found[t].scores, wanted["instances"].scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            found[t].pred_boxes.tensor, wanted["instances"].pred_boxes.tensor, rtol=0, atol=1e-3
        )


def test_predict_takes_it(weights, tmp_path, monkeypatch, capsys):
    write_frames(tmp_path / "clip", make_frames(4))
    monkeypatch.chdir(tmp_path)
    words = ["predict", "--config-file", FCOS, "--input", "clip", "--output", "out", "--no-video"]
    code = main([*words, *QUICK, "--weights", str(weights), "--tracks"])
    assert code == 0, capsys.readouterr().err
    found = json.loads(Path("out/predictions.json").read_text())
    assert {d["frame_index"] for d in found} == {0, 1, 2, 3}
    assert Path("out/tracks.csv").is_file()


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("train.max_itr=3", "no key train.max_itr; did you mean max_iter?"),
        ("modell.gate=True", "no key modell.gate; did you mean model?"),
        ("train.max_iter", "train.max_iter has no value"),
        ("train.device=cuda", "train.device is cuda, but torch sees no GPU"),
        ("video.AMPP=float16", "no key TEST.VIDEO.AMPP; did you mean TEST.VIDEO.AMP?"),
    ],
)
def test_mistakes_are_sentences(option, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        yacs_of(load_lazy_config(FCOS, [option]))


def test_a_yaml_reader_runs_no_program(tmp_path):
    (tmp_path / "program.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nmodel = dict()")
    with pytest.raises(ValueError, match=r"program.py is a LazyConfig, a program"):
        load_config(str(tmp_path / "program.py"))
    assert not (tmp_path / "ran").exists()


def test_widths_come_from_the_backbone():
    """The model of the project, with a temporal part made from `output_shape`."""
    cfg = load_lazy_config(FCOS)
    options = {"FLOW.LEVEL": "p3", "FLOW.CHANNELS": 16, "FLOW.PAIR_CHANNELS": 8}
    window = TemporalWindow(num_refs=2)
    cfg.model.temporal = L(temporal_for)(window=window, options=options)
    model = instantiate(cfg.model)
    assert isinstance(model, VideoFCOS)
    assert set(model.temporal.aggregators) == {"p3", "p4"}
    assert model.temporal.window == window
    with pytest.raises(KeyError, match=r"Non-existent key: MODEL.IFF.FLO.LEVEL"):
        temporal_for(options={"FLO.LEVEL": "p3"})


@pytest.mark.slow
def test_training_takes_detectron2_s_own_config(tmp_path, monkeypatch, fresh_builtins, capsys):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    generate_moving_shapes(
        tmp_path / "moving_shapes",
        num_train_videos=1,
        num_val_videos=1,
        num_frames=4,
        num_workers=1,
        progress=False,
    )
    resize = "detectron2.data.transforms.ResizeShortestEdge"
    small = f"[{{_target_:{resize},short_edge_length:64,max_size:96}}]"
    train = [
        *("train", "--config-file", "COCO-Detection/fcos_R_50_FPN_1x.py"),
        *("train.init_checkpoint=''", "train.max_iter=2", "train.device=cpu"),
        *(f"train.output_dir={tmp_path / 'out'}", "train.checkpointer.period=1"),
        *("dataloader.train.dataset.names=moving_shapes_train", "dataloader.train.num_workers=0"),
        *("dataloader.test.dataset.names=moving_shapes_val", "dataloader.test.num_workers=0"),
        *(f"dataloader.train.mapper.augmentations={small}", "dataloader.train.total_batch_size=2"),
        *(f"dataloader.test.mapper.augmentations={small}", "model.num_classes=8"),
        # No weights to start from: so nothing is frozen.
        "model.backbone.bottom_up.freeze_at=0",
        "dataloader.evaluator._target_=iff_detectron2.evaluation.VIDEvaluator",
    ]
    assert main(train) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    assert {p.name for p in out.glob("*.pth")} == {
        *("model_0000000.pth", "model_0000001.pth", "model_final.pth")
    }
    assert main([*train, "--resume", "train.max_iter=3"]) == 0, capsys.readouterr().err
    last = torch.load(out / "model_final.pth", weights_only=True)
    assert last["iteration"] == 2
    assert main([*train, "--eval-only", "--resume"]) == 0, capsys.readouterr().err
    assert main(train) == 2
    assert "holds the checkpoints of a training" in capsys.readouterr().err
    assert main([*train, "--resume", "train.amp.enabled=True"]) == 2
    assert "train.amp.enabled needs a GPU" in capsys.readouterr().err


def test_a_dataset_that_is_not_here_is_told_with_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = "COCO-Detection/fcos_R_50_FPN_1x.py"
    assert main(["train", "--config-file", config, f"train.output_dir={tmp_path}/out"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "instances_train2017.json does not exist; set DETECTRON2_DATASETS" in said
