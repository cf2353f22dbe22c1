"""The trained weights that come with the package."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from detectron2.utils.file_io import PathManager
from toy_models import CONFIGS

from iff_detectron2 import model_zoo
from iff_detectron2.data.moving_shapes import generate_moving_shapes
from iff_detectron2.engine import VideoCheckpointer, VideoTrainer, load_config
from iff_detectron2.engine.config_check import fetch_weights
from iff_detectron2.engine.frame_detector import load_model

FILES = sorted(CONFIGS.glob("*/weights/*.pth"))
NAMES = [f"{path.parts[-3]}/{path.stem}" for path in FILES]


def test_they_are_small():
    assert 0 < sum(path.stat().st_size for path in FILES) < 10e6


@pytest.mark.parametrize("name", NAMES)
def test_they_are_all_that_the_model_needs(name):
    cfg = model_zoo.get_config(name, trained=True)
    model = VideoTrainer.build_model(cfg)
    VideoCheckpointer(model, needs="all").load(cfg.MODEL.WEIGHTS)
    held = torch.load(model_zoo.get_checkpoint_file(name), weights_only=True)["model"]
    own = model.state_dict()
    # The pixel mean and deviation are the config's, not learned.
    assert own.keys() - held.keys() <= {"pixel_mean", "pixel_std"}
    assert held.keys() <= own.keys()
    for key, value in held.items():
        assert torch.equal(own[key].cpu().double(), value.double()), key


def test_a_trained_model_by_name():
    model = model_zoo.get("MovingShapes/rfcn")
    assert not model.training
    image = torch.zeros(3, 160, 224)
    assert len(model([{"image": image, "height": 160, "width": 224}])) == 1


def test_an_address_is_taken_where_detectron2_takes_a_path():
    address = "iff://MovingShapes/iff_net_C"
    path = model_zoo.get_checkpoint_file("MovingShapes/iff_net_C.yaml")
    assert PathManager.get_local_path(address) == path
    assert PathManager.isfile(address)
    with PathManager.open(address, "rb") as stream, open(path, "rb") as file:
        assert stream.read() == file.read()
    fetch_weights(load_config("MovingShapes/iff_net_C", ["MODEL.WEIGHTS", address]))


@pytest.mark.parametrize("name", ["MovingShapes/iff_net_c", "../iff_net_C", "iff_net_C", ""])
def test_weights_that_there_are_none_of_are_one_sentence(name):
    with pytest.raises(FileNotFoundError, match=r"has no weights of .*MovingShapes/iff_net_C"):
        model_zoo.get_checkpoint_file(name)
    cfg = load_config("MovingShapes/iff_net_C", ["MODEL.WEIGHTS", f"iff://{name}"])
    with pytest.raises(FileNotFoundError, match=r"has no weights of"):
        fetch_weights(cfg)


@pytest.mark.slow
def test_they_detect(tmp_path):
    """On videos of another seed than those that they were trained and tested on."""
    root = tmp_path / "moving_shapes"
    generate_moving_shapes(root, seed=5, num_train_videos=0, num_val_videos=4, num_val_frames=8)
    found = {}
    for name in ("rfcn", "iff_net_C"):
        opts = ["DATASETS.REGISTER", [f"zoo_{name}=moving_shapes:{root}@VID_val_videos"]]
        opts += ["DATASETS.TEST", [f"zoo_{name}"], "OUTPUT_DIR", str(tmp_path / name)]
        opts += ["MODEL.WEIGHTS", f"iff://MovingShapes/{name}"]
        cfg = load_config(f"MovingShapes/{name}", opts)
        found[name] = VideoTrainer.test(cfg, load_model(cfg))["bbox"]["mAP50"]
    assert found["rfcn"] > 50
    assert found["iff_net_C"] > 50


def test_a_checkpoint_becomes_one_of_the_zoo_by_a_command(tmp_path):
    """Half precision and nothing but weights; what does not fit in it is refused."""
    script = CONFIGS.parent / "dev" / "zoo_weights.py"
    there = tmp_path / "model.pth"
    torch.save({"model": {"a": torch.tensor([7e4])}, "iteration": 3}, there)
    command = [sys.executable, str(script), str(there), "MovingShapes/rfcn"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "beyond the range of half precision: a" in done.stderr
