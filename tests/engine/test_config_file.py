"""What a config's name means, and that configs run no code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from toy_models import CONFIGS

from iff_detectron2 import model_zoo
from iff_detectron2.engine import load_config
from iff_detectron2.engine.config_check import fetch_weights
from iff_detectron2.engine.config_file import find_config, import_project, zoo_folder

ZOO = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
OURS = "MovingShapes/iff_net_C"


@pytest.mark.parametrize("name", [OURS, f"{OURS}.yaml", str(CONFIGS / f"{OURS}.yaml")])
def test_a_config_of_ours_by_name_and_by_path(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS / f"{OURS}.yaml"
    assert model_zoo.get_config_file(name) == str(CONFIGS / f"{OURS}.yaml")
    assert model_zoo.get_config(name).MODEL.IFF.FLOW.NAME == "AdvancedIFF"


def test_a_file_of_that_name_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MovingShapes").mkdir()
    (tmp_path / f"{OURS}.yaml").write_text("SEED: 7")
    assert load_config(f"{OURS}.yaml").SEED == 7


def test_a_config_of_the_zoo_comes_with_the_weights_of_the_zoo():
    cfg = load_config(ZOO)
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    assert cfg.MODEL.WEIGHTS == (
        "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x/"
        "137849458/model_final_280758.pkl"
    )
    assert load_config(ZOO, ["MODEL.WEIGHTS", "mine.pth"]).MODEL.WEIGHTS == "mine.pth"


def test_configs_of_the_zoo_are_read_by_name():
    names = [path.relative_to(zoo_folder()) for path in zoo_folder().glob("COCO-*/*_3x.yaml")]
    assert len(names) > 15
    for name in names:
        assert load_config(str(name)).MODEL.WEIGHTS.endswith(".pkl")


def test_tags_of_the_zoo_are_trusted_for_the_zoo_alone(tmp_path):
    retinanet = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    sizes = load_config(retinanet).MODEL.ANCHOR_GENERATOR.SIZES
    assert sizes[0] == pytest.approx([32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)])
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"_BASE_: {find_config(retinanet)}")
    with pytest.raises(ValueError, match=r"Base-RetinaNet.yaml: .*python/object/apply:eval"):
        load_config(str(mine))


@pytest.mark.parametrize("where", ["the file", "its base"])
def test_a_config_runs_no_code(where, tmp_path):
    ran = tmp_path / "ran"
    evil = f"OUTPUT_DIR: !!python/object/apply:os.system ['touch {ran}']"
    files = {"the file": ("top.yaml", evil), "its base": ("base.yaml", evil)}
    (tmp_path / "top.yaml").write_text("_BASE_: base.yaml")
    name, text = files[where]
    (tmp_path / name).write_text(text)
    assert "os.system" in text
    with pytest.raises(ValueError, match=rf"{name}: .*python/object.*line 1; such a tag could"):
        load_config(str(tmp_path / "top.yaml"))
    assert not ran.exists()
    yaml.unsafe_load(text)  # the text does what this test is about
    assert ran.exists()


def test_the_device_that_is_asked_for_is_the_device(tmp_path, monkeypatch):
    asks = tmp_path / "asks.yaml"
    asks.write_text("MODEL: {DEVICE: cuda}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_config(OURS).MODEL.DEVICE == "cpu"
    with pytest.raises(ValueError, match=r"MODEL.DEVICE is cuda, but torch sees no GPU"):
        load_config(OURS, ["MODEL.DEVICE", "cuda"])
    with pytest.raises(ValueError, match=r"MODEL.DEVICE is cuda, but torch sees no GPU"):
        load_config(str(asks))
    assert load_config(str(asks), ["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert load_config(OURS).MODEL.DEVICE == "cuda"
    with pytest.raises(ValueError, match=r"MODEL.DEVICE is cuda:1, but torch sees 1 GPU"):
        load_config(OURS, ["MODEL.DEVICE", "cuda:1"])


def test_offline_is_a_sentence(monkeypatch):
    from detectron2.utils.file_io import PathManager

    def no_network(path, **kwargs):
        from urllib.error import URLError

        raise URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(PathManager, "get_local_path", no_network)
    with pytest.raises(OSError, match=r"cannot download https://dl.*280758.pkl \(.*known\); bring"):
        fetch_weights(load_config(ZOO))


PROJECT = """
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.config import CfgNode

@META_ARCH_REGISTRY.register()
class {name}:
    pass

def add_config(cfg):
    cfg.MODEL.MINE = CfgNode({{"DEPTH": 3}})
"""


def test_a_project_brings_its_classes_and_keys(tmp_path, monkeypatch):
    (tmp_path / "brought_project.py").write_text(PROJECT.format(name="BroughtDetector"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path.cwd()))])
    add_config = import_project(["brought_project:add_config"])
    cfg = load_config(
        OURS,
        ["MODEL.MINE.DEPTH", "5", "MODEL.META_ARCHITECTURE", "BroughtDetector"],
        add_config=add_config,
    )
    assert cfg.MODEL.MINE.DEPTH == 5
    from iff_detectron2.engine.config_check import check_names

    check_names(cfg)
