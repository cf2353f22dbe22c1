import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from toy_models import build, tiny_cfg

from iff_detectron2.engine import VideoCheckpointer


class Harmful:
    """What a stranger could put into a checkpoint."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, suffix):
    evidence = tmp_path / "evidence"
    path = tmp_path / f"model{suffix}"
    content = {"model": {"weight": Harmful(str(evidence))}, "__author__": "x"}
    if suffix == ".pth":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=f"cannot read the checkpoint .*model{suffix}"):
        VideoCheckpointer(nn.Linear(2, 2)).load(str(path))
    assert not evidence.exists()


def test_model_zoo_pickles_load(tmp_path):
    path = tmp_path / "model.pkl"
    weights = {"weight": np.full((2, 3), 0.5, np.float32), "bias": np.arange(2, dtype=np.float32)}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "zoo"}, protocol=2))
    model = nn.Linear(3, 2)
    VideoCheckpointer(model).load(str(path))
    assert model.weight.tolist() == [[0.5] * 3] * 2
    assert model.bias.tolist() == [0, 1]


def test_backbone_weights_by_detectron2s_names_load(tmp_path):
    """The zoo's ImageNet files name a ResNet's weights without the prefix of the backbone."""
    model = build(tiny_cfg())
    weights = {
        name.removeprefix("backbone."): np.full(tuple(p.shape), 0.25, np.float32)
        for name, p in model.named_parameters()
        if name.startswith("backbone.") and "reduction" not in name
    }
    path = tmp_path / "R.pkl"
    content = {"model": weights, "__author__": "zoo", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content, protocol=2))
    before = model.backbone.reduction.weight.clone()
    VideoCheckpointer(model).load(str(path))
    assert (model.backbone.stem.conv1.weight == 0.25).all()
    assert (model.backbone.res5[0].conv3.weight == 0.25).all()
    assert torch.equal(model.backbone.reduction.weight, before)


def test_checkpoint_of_another_model_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"model": nn.Linear(2, 2).state_dict()}, path)
    with pytest.raises(ValueError, match="is it of another model"):
        VideoCheckpointer(nn.Sequential(nn.Conv2d(1, 1, 1))).load(str(path))


def test_cut_file_is_named(tmp_path):
    path = tmp_path / "cut.pth"
    torch.save({"model": nn.Linear(20, 20).state_dict()}, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cut\.pth"):
        VideoCheckpointer(nn.Linear(20, 20)).load(str(path))


@pytest.mark.parametrize("content", [2, "model", [1], torch.zeros(2)], ids=repr)
def test_what_is_no_table_is_named(tmp_path, content):
    torch.save(content, tmp_path / "number.pth")
    checkpointer = VideoCheckpointer(torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"number\.pth: it holds no weights by name"):
        checkpointer.load(str(tmp_path / "number.pth"))


def test_numbers_and_arrays_of_numpy_are_read(tmp_path):
    path = tmp_path / "scalars.pth"
    best = {"map": np.float32(0.5), "flag": np.bool_(True), "curve": [np.arange(3, dtype=np.int16)]}
    weights = {"weight": np.full((2, 3), 0.25, np.float32), "bias": torch.ones(2)}
    torch.save({"model": weights, "best": best}, path)
    model = nn.Linear(3, 2)
    rest = VideoCheckpointer(model).load(str(path))
    assert model.weight.tolist() == [[0.25] * 3] * 2
    assert rest["best"]["map"] == 0.5
    assert rest["best"]["map"].dtype == np.float32
    assert rest["best"]["curve"][0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [Harmful("x"), np.array([Harmful("x")], dtype=object)])
def test_what_is_refused_is_named_without_advice_to_trust_it(tmp_path, content):
    path = tmp_path / "model.pth"
    torch.save({"model": {"weight": torch.ones(1)}, "extra": content}, path)
    with pytest.raises(ValueError, match=r"cannot read the checkpoint .*model\.pth") as error:
        VideoCheckpointer(nn.Linear(2, 2)).load(str(path))
    said = str(error.value)
    assert "weights_only" not in said
    assert "safe_globals" not in said
    assert "\n" not in said
    assert "torch.save({'model': weights}, FILE)" in said or "no number" in said


@pytest.mark.parametrize("pointer", ["", "\0\0\0\0", "model_0000009.pth", "\ufffd"])
def test_a_pointer_to_nothing_means_the_newest_checkpoint(tmp_path, pointer):
    """R6: a full disk leaves it empty, a sudden end of the system full of zeros."""
    checkpointer = VideoCheckpointer(nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_0000002")
    os.utime(tmp_path / "model_0000001.pth", (1, 1))
    (tmp_path / "last_checkpoint").write_text(pointer)
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000002.pth")
    for path in tmp_path.glob("*.pth"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"last_checkpoint names .* which is not there"):
        checkpointer.resume_or_load("", resume=True)
