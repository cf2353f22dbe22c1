"""An exported detector against its model: whole, in parts, and without Detectron2."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_unflatten
from toy_models import build, randomise_flow, tiny_cfg
from video_runs import SIZES, make_frames, make_model, spread_scores

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.deploy import VideoRunner, read_manifest
from iff_detectron2.engine import VideoPredictor
from iff_detectron2.export import ExportOptions, export_detector
from iff_detectron2.modeling.codes import BatchCodes
from iff_detectron2.modeling.video_pass import FusionRequest

pytestmark = pytest.mark.slow

# Height and width of frames.
FRAMES = [(48, 72), (66, 48), (40, 96)]
WINDOWS = [2, 4, 6]


@dataclass(frozen=True)
class Exported:
    """A detector and what was written of it."""

    folder: Path
    cfg: object
    model: torch.nn.Module
    said: list[str]


def export(folder: Path, cfg, model, **options) -> Exported:
    said: list[str] = []
    options = {"onnx": False, **options}
    export_detector(cfg, folder, ExportOptions(**options), model=model, say=said.append)
    return Exported(folder, cfg, model, said)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Exported:
    """Export once for frames of any size, with ONNX where its packages are."""
    folder = tmp_path_factory.mktemp("export")
    return export(folder, tiny_cfg(*SIZES), make_model(), onnx=True)


def assert_same(got, expected, frames: int) -> None:
    """Compare detections of a runner with those of a predictor, by frame index."""
    assert list(got) == list(expected) == list(range(frames))
    for index, instances in expected.items():
        found = got[index]
        assert set(found.frames) <= {index}
        assert found.classes.tolist() == instances.pred_classes.tolist()
        np.testing.assert_allclose(found.scores, instances.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.boxes, instances.pred_boxes.tensor, rtol=0, atol=1e-3)


def compare_runs(made: Exported, frames, num_refs: int | None = None) -> int:
    """Run runner and predictor over frames; return the number of detections."""
    cfg = made.cfg.clone()
    if num_refs is not None:
        cfg.merge_from_list(["TEST.VIDEO.NUM_REFS", num_refs])
    runner = VideoRunner(made.folder, num_refs)
    expected = {i: found for i, _, found in VideoPredictor(cfg, made.model)(frames)}
    got = {i: found for i, _, found in runner(frames)}
    assert_same(got, expected, len(frames))
    return sum(map(len, got.values()))


@pytest.mark.parametrize("num_refs", WINDOWS)
def test_a_runner_gives_what_the_predictor_gives(exported, num_refs):
    found = 0
    for seed, (height, width) in enumerate(FRAMES):
        frames = make_frames(num_refs + 3, height, width, seed)
        found += compare_runs(exported, frames, num_refs)
    assert found > 50
    assert compare_runs(exported, make_frames(1), num_refs) > 0  # shorter than the window


@pytest.mark.parametrize("size", FRAMES, ids=str)
def test_programs_give_what_the_model_gives(exported, size):
    manifest = read_manifest(exported.folder)
    model, to_input = exported.model, NetworkInput(exported.cfg)
    frame, key = (
        torch.export.load(exported.folder / name).module() for name in ("frame.pt2", "key.pt2")
    )
    for num_refs in WINDOWS:
        images = [to_input(f) for f in make_frames(num_refs + 1, *size)]
        programs = [frame(image[None]) for image in images]
        with torch.no_grad():
            features, batch = model.frame_maps([{"image": image} for image in images])
            codes = model.temporal.encode(features, batch)
            request = FusionRequest(0, list(range(1, num_refs + 1)), [])
            frames = BatchCodes(codes, {i: i for i in range(num_refs + 1)})
            expected = model.temporal.fuse_one(request, frames)["reduction"].feature
        names = [c.name for c in manifest.codes]
        assert names == ["reduction.feature", "reduction.flow", "reduction.embedding"]
        for column, name in enumerate(names):
            whole = codes["reduction"][name.partition(".")[2]]
            joined = torch.cat([codes[column] for codes in programs])
            torch.testing.assert_close(joined, whole, rtol=1e-4, atol=1e-4)
        refs = tuple(torch.cat(parts) for parts in zip(*programs[1:], strict=True))
        (fused,) = key(programs[0], refs, torch.arange(1, num_refs + 1))
        torch.testing.assert_close(fused, expected, rtol=1e-4, atol=1e-4)
        # It does something: the key frame alone has other features.
        assert (fused - programs[0][0]).abs().max() > 0.01


WITHOUT = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "detectron2" and name != "detectron2":
            raise AssertionError(f"{name} is imported")
sys.meta_path.insert(0, Refuse())
sys.modules["detectron2"] = None  # as if it were not installed: importing it raises
import numpy as np
from iff_detectron2.deploy import VideoRunner
folder, frames, results = sys.argv[1:]
found = {}
for index, frame, detections in VideoRunner(folder)(np.load(frames)):
    found[f"boxes{index}"], found[f"scores{index}"] = detections.boxes, detections.scores
np.savez(results, **found)
assert sys.modules["detectron2"] is None
assert not [name for name in sys.modules if name.startswith("detectron2.")]
"""


def test_it_runs_without_detectron2(exported, tmp_path):
    frames = make_frames(6)
    np.save(tmp_path / "frames.npy", np.stack(frames))
    arguments = [exported.folder, tmp_path / "frames.npy", tmp_path / "found.npz"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for index, _, instances in VideoPredictor(exported.cfg, exported.model)(frames):
        np.testing.assert_allclose(found[f"scores{index}"], instances.scores, atol=1e-4)
        boxes = instances.pred_boxes.tensor
        np.testing.assert_allclose(found[f"boxes{index}"], boxes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("num_refs", WINDOWS)
def test_onnx_gives_what_the_model_gives(exported, num_refs):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    frame, key = (
        onnxruntime.InferenceSession(exported.folder / name, providers=["CPUExecutionProvider"])
        for name in ("frame.onnx", "key.onnx")
    )
    to_input, temporal = NetworkInput(exported.cfg), exported.model.temporal
    for size in FRAMES:
        images = [to_input(f)[None] for f in make_frames(num_refs + 1, *size)]
        codes = [frame.run(None, {"image": image.numpy()}) for image in images]
        names = [output.name.rpartition(".")[2] for output in frame.get_outputs()]
        with torch.no_grad():
            features, batch = exported.model.frame_maps([{"image": i[0]} for i in images])
            expected = temporal.encode(features, batch)
            request = FusionRequest(0, list(range(1, num_refs + 1)), [])
            frames = BatchCodes(expected, {i: i for i in range(num_refs + 1)})
            map_ = temporal.fuse_one(request, frames)["reduction"].feature
        for column, name in enumerate(names):
            got = np.concatenate([of_frame[column] for of_frame in codes])
            np.testing.assert_allclose(got, expected["reduction"][name], rtol=1e-4, atol=1e-4)
        feed = {f"key.reduction.{n}": x for n, x in zip(names, codes[0], strict=True)}
        for column, name in enumerate(names):
            feed[f"refs.reduction.{name}"] = np.concatenate([c[column] for c in codes[1:]])
        feed["offsets"] = np.arange(1, num_refs + 1)
        (fused,) = key.run(None, feed)
        np.testing.assert_allclose(fused, map_, rtol=1e-4, atol=1e-4)


def test_a_frame_that_fails_can_be_pushed_again(exported, monkeypatch):
    frames = make_frames(7)
    runner = VideoRunner(exported.folder)
    expected = VideoRunner(exported.folder)
    heads = runner._programs["heads.ts"]
    for t, frame in enumerate(frames):
        if t in (3, 5):

            def fails(*args):
                raise MemoryError("none left")

            runner._programs["heads.ts"] = fails
            with pytest.raises(MemoryError):
                runner.push(frame)
            runner._programs["heads.ts"] = heads
        got, wanted = runner.push(frame), expected.push(frame)
        assert [i for i, _ in got] == [i for i, _ in wanted]
        for (_, a), (_, b) in zip(got, wanted, strict=True):
            assert np.array_equal(a.boxes, b.boxes)
    assert [i for i, _ in runner.flush()] == [5, 6]


def test_frames_that_do_not_fit_are_refused(exported):
    runner = VideoRunner(exported.folder)
    runner.push(make_frames(1)[0])
    with pytest.raises(ValueError, match="frame 1 is 48x72 pixels and those before it 72x48"):
        runner.push(make_frames(1, 72, 48)[0])
    with pytest.raises(TypeError, match="uint8 numpy array, got float64"):
        runner.push(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"\[H, W, 3\], got \[4, 4\]"):
        runner.push(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="takes two or more reference frames, got 1"):
        VideoRunner(exported.folder, 1)


def test_a_fixed_size_fixes_the_window_too(tmp_path):
    made = export(tmp_path / "fixed", tiny_cfg(*SIZES), make_model(), frame_size=(48, 72))
    manifest = read_manifest(made.folder)
    assert (manifest.input.frame_size, manifest.any_window) == ((48, 72), False)
    assert manifest.codes[0].shape == (1, 32, 5, 8)  # 40 x 60 pixels at stride 8
    assert compare_runs(made, make_frames(7)) > 0
    with pytest.raises(ValueError, match="for frames of 72x48 pixels, got 48x72"):
        VideoRunner(made.folder).push(make_frames(1, 72, 48)[0])
    with pytest.raises(ValueError, match="takes 4 reference frames, got 2"):
        VideoRunner(made.folder, 2)


def other_detector(*opts, config="MovingShapes/iff_net_C.yaml"):
    cfg = tiny_cfg(*SIZES, *opts, config=config)
    model = build(cfg)
    randomise_flow(model)
    spread_scores(model)
    return cfg, model


@pytest.mark.parametrize(
    ("config", "opts"),
    [
        ("rfcn", ()),
        ("iff_net_C", ("TEST.VIDEO.CAUSAL", True, "TEST.VIDEO.NUM_REFS", 1)),
        ("iff_net_C", ("MODEL.IFF.AGGREGATOR", "OffsetAwareAggregator")),
        ("iff_net_C", ("MODEL.IFF.AGGREGATOR", "TwoHypothesesAggregator")),
        ("iff_net_C", ("MODEL.IFF.EMBEDDING.BEFORE_WARP", False, "INPUT.FORMAT", "RGB")),
    ],
    ids=["plain", "causal", "offsets", "moved-or-still", "embedded-after"],
)
def test_other_detectors(tmp_path, config, opts):
    cfg, model = other_detector(*opts, config=f"MovingShapes/{config}.yaml")
    for name, parameter in model.named_parameters():
        if name.endswith(("log_scale", "aggregators.reduction.bias")):
            torch.nn.init.normal_(parameter)  # else offsets change nothing
    made = export(tmp_path / "made", cfg, model)
    assert compare_runs(made, make_frames(7)) > 0


def test_what_cannot_be_exported_is_told(exported, tmp_path):
    with pytest.raises(ValueError, match=r"holds an exported detector; .* --overwrite"):
        export(exported.folder, exported.cfg, exported.model)
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT L cannot be exported"):
        export(tmp_path, tiny_cfg("INPUT.FORMAT", "L"), exported.model)
    strange = make_model()
    strange.preprocess_image = lambda samples: type(strange).preprocess_image(
        strange, [{**s, "image": 255 - s["image"]} for s in samples]
    )
    with pytest.raises(ValueError, match="prepares its images in another way"):
        export(tmp_path, exported.cfg, strange)
    assert sorted(tmp_path.iterdir()) == []


def test_heads_that_are_left_out_leave_the_maps(exported, tmp_path, monkeypatch):
    from iff_detectron2.export import session

    def refuse(part, args):
        raise session.NotExported("no reason at all")

    monkeypatch.setattr(session, "trace_heads", refuse)
    made = export(tmp_path, exported.cfg, exported.model)
    assert made.said[-1] == "no heads.ts: no reason at all; a runner gives the fused maps"
    with pytest.raises(ValueError, match="has no heads: no reason at all; push_maps"):
        VideoRunner(tmp_path)(make_frames(5)).__next__()
    frames = make_frames(5)
    ours, theirs = VideoRunner(tmp_path), VideoRunner(exported.folder)
    maps = [found for f in frames for found in ours.push_maps(f)] + ours.flush_maps()
    wanted = [found for f in frames for found in theirs.push_maps(f)] + theirs.flush_maps()
    assert [index for index, _ in maps] == list(range(5))
    for (_, a), (_, b) in zip(maps, wanted, strict=True):
        assert torch.equal(a["reduction"], b["reduction"])


def test_a_file_of_another_export_is_refused(exported, tmp_path):
    for path in exported.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "key.pt2").write_bytes((exported.folder / "frame.pt2").read_bytes())
    with pytest.raises(ValueError, match=r"key\.pt2 is not the file that was written"):
        VideoRunner(tmp_path)


def test_a_package_that_differs_from_the_model_is_left_out(exported, tmp_path, monkeypatch):
    """The compiler, which takes minutes, is replaced: by one that gets `key` wrong."""
    from iff_detectron2.export import session

    def run(path, program, args):
        assert path.read_bytes() == b"compiled"
        positional, named = tree_unflatten(list(args), program.call_spec.in_spec)
        out = program.module()(*positional, **named)
        return [x + 0.1 * path.name.startswith("key") for x in out]

    monkeypatch.setattr(session, "write_aoti", lambda program, path: path.write_bytes(b"compiled"))
    monkeypatch.setattr(session, "run_aoti", run)
    made = export(tmp_path, exported.cfg, exported.model, aoti=True)
    assert made.said[-2].startswith("frame.aoti.pt2: equal to the model within ")
    assert made.said[-1].startswith("no key.aoti.pt2: it differs from the model by ")
    manifest = read_manifest(tmp_path)
    assert "frame.aoti.pt2" in manifest.files
    assert set(manifest.left_out) == {"key.aoti.pt2"}
    assert not (tmp_path / "key.aoti.pt2").exists()


@pytest.mark.endurance
def test_packages_of_aotinductor_give_what_the_model_gives(tmp_path):
    made = export(tmp_path, tiny_cfg(*SIZES), make_model(), frame_size=(48, 72), aoti=True)
    assert read_manifest(tmp_path).left_out == {}
    packages = [line for line in made.said if ".aoti.pt2: equal to the model within " in line]
    assert len(packages) == 2
