"""What can be known before the first step is known before the first step."""

import logging
import shutil
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from toy_models import CONFIGS, TINY, build, tiny_cfg
from video_runs import SIZES, command, make_frames, write_frames

from iff_detectron2.cli.main import main
from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.engine import VideoTrainer, launch_from_command_line
from iff_detectron2.engine.preflight import check_classes

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def cfg(tiny_vid, tmp_path):
    """Return a config of a training on a small tree, registered as `pre_train` and `pre_val`."""
    root = tiny_vid(lengths=(4,))
    register_imagenet_vid("pre_train", root, "VID_train_15frames")
    register_imagenet_vid("pre_val", root, "VID_val_videos")
    return tiny_cfg(
        *SIZES,
        *("DATASETS.TRAIN", ("pre_train",), "DATASETS.TEST", ("pre_val",)),
        *("MODEL.ROI_HEADS.NUM_CLASSES", 30, "DATALOADER.NUM_WORKERS", 0),
        *("OUTPUT_DIR", str(tmp_path / "output")),
    )


def changed(cfg, *opts):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(opts))
    cfg.freeze()
    return cfg


@pytest.mark.parametrize("number", [1, 5])
def test_the_number_of_classes_is_held_against_the_training_set(cfg, number):
    message = (
        rf"tells {number} class\(es\) apart, but 'pre_train' has 30 \(airplane, .*\.\.\.\); set "
        r"MODEL\.ROI_HEADS\.NUM_CLASSES of the model to 30"
    )
    with pytest.raises(ValueError, match=message):
        VideoTrainer(changed(cfg, "MODEL.ROI_HEADS.NUM_CLASSES", number))


@pytest.mark.parametrize("arch", ["VideoRetinaNet", "VideoFCOS", "RetinaNet"])
def test_detectors_of_one_stage_are_held_too(cfg, arch):
    MetadataCatalog.get("three").set(thing_classes=["a", "b", "c"])
    model = build(
        tiny_cfg(
            *("MODEL.META_ARCHITECTURE", arch, "MODEL.RETINANET.IN_FEATURES", ["reduction"]),
            *("MODEL.RETINANET.NUM_CLASSES", 4, "MODEL.IFF.IN_FEATURES", ["reduction"]),
        )
    )
    with pytest.raises(ValueError, match=r"4 class\(es\) apart, but 'three' has 3 \(a, b, c\)"):
        check_classes(model, ("three",), ())


def test_the_order_of_the_classes_counts(cfg, caplog):
    for name, classes in (("one", "abc"), ("other", "acb"), ("renamed", "abd")):
        MetadataCatalog.get(name).set(thing_classes=list(classes))
    model = build(changed(cfg, "MODEL.ROI_HEADS.NUM_CLASSES", 3))
    check_classes(model, ("one",), ("one",))
    with pytest.raises(ValueError, match="class 1 is 'c' in 'other' and 'b' in 'one'"):
        check_classes(model, ("one",), ("other",))
    with caplog.at_level(logging.WARNING):
        check_classes(model, ("one",), ("renamed",))
    assert "class 2 is 'd' in 'renamed' and 'c' in 'one'" in caplog.text


def test_a_test_set_that_cannot_be_scored_ends_the_training_before_it_begins(cfg, tiny_vid):
    dicts = DatasetCatalog.get("pre_val")
    broken = [{**d, "annotations": 2 * d["annotations"]} for d in dicts]
    DatasetCatalog.register("twice", lambda: broken)
    MetadataCatalog.get("twice").set(
        thing_classes=MetadataCatalog.get("pre_val").thing_classes,
        evaluator_type="vid",
        frame_index=MetadataCatalog.get("pre_val").frame_index,
    )
    with pytest.raises(
        ValueError, match=r"'twice' of DATASETS\.TEST cannot be scored: .*two boxes"
    ):
        VideoTrainer(changed(cfg, "DATASETS.TEST", ("pre_val", "twice")))


def test_a_test_set_without_its_frames_ends_the_training_before_it_begins(cfg, tiny_vid):
    data = tiny_vid.root / "Data/VID/train/video_0"
    dicts = DatasetCatalog.get("pre_val")
    assert Path(dicts[0]["file_name"]).is_file()
    shutil.rmtree(data)
    with pytest.raises(FileNotFoundError, match=r"of pre_val does not exist"):
        VideoTrainer(cfg)


def test_eval_only_looks_at_all_test_sets_first(tmp_path, capsys):
    argv = [
        *("--config-file", str(CONFIGS / "MovingShapes" / "iff_net_C.yaml"), "--eval-only"),
        *map(str, (*TINY, *SIZES)),
        *("DATASETS.TEST", "('nowhere',)", "MODEL.ALLOW_MISSING_WEIGHTS", "True"),
        *("OUTPUT_DIR", str(tmp_path / "output")),
    ]
    with pytest.raises(SystemExit) as end:
        launch_from_command_line(argv=argv)
    assert end.value.code == 2
    assert "there is no dataset 'nowhere'" in capsys.readouterr().err


def test_annotations_that_an_earlier_run_kept_are_not_used(cfg, tmp_path):
    kept = Path(cfg.OUTPUT_DIR, "inference", "pre_val", "pre_val_coco_format.json")
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    VideoTrainer(cfg)
    assert not kept.exists()


def test_predict_does_not_name_classes_by_another_set(tmp_path, capsys):
    MetadataCatalog.get("two_things").set(thing_classes=["a", "b"])
    write_frames(tmp_path / "clip", make_frames(2))
    arguments = ("--input", tmp_path / "clip", "--output", tmp_path / "out")
    opts = ("DATASETS.TEST", "('two_things',)")
    assert main(["predict", *command(tmp_path, *arguments, opts=opts)]) == 2
    assert "8 class(es) apart, but 'two_things' has 2" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
