from __future__ import annotations

import os
import platform
import sys

import numpy as np
import pytest
import torch

from iff_detectron2.utils.collect_env import collect_env_report


def report_rows() -> dict[str, str]:
    rows = {}
    for line in collect_env_report().splitlines():
        name, _, value = line.partition("  ")
        rows[name] = value.strip()
    return rows


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Write packages that hide the installed ones of the same name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> None:
        for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, module)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)

    yield write
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


def hide(monkeypatch, *names: str) -> None:
    for name in names:
        # Python's own mark for "not to be found".
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"{name}._C", raising=False)


def test_versions_are_those_of_the_modules():
    rows = report_rows()
    assert rows["Python"].startswith(platform.python_version())
    assert rows["torch"] == torch.__version__
    assert rows["numpy"] == np.__version__
    assert rows["torch threads"].startswith(f"{torch.get_num_threads()},")
    assert rows["CPU"].endswith(f"of {os.cpu_count()} cores usable")
    assert rows["CUDA of torch"] == (torch.version.cuda or "built without CUDA")
    if not torch.cuda.is_available():
        assert rows["GPU"] == "none"
    for name in ("torchvision", "triton", "cv2", "pycocotools", "fvcore", "detectron2._C"):
        assert rows[name]


def test_absent_libraries_are_said_to_be_absent(monkeypatch):
    hide(monkeypatch, "detectron2", "triton")
    rows = report_rows()
    assert rows["detectron2"] == "not installed"
    assert rows["detectron2._C"] == "not installed"
    assert rows["triton"] == "not installed"
    assert rows["numpy"] == np.__version__


def test_absent_torch_is_said_to_be_absent(monkeypatch):
    hide(monkeypatch, "torch", "torchvision")
    rows = report_rows()
    assert rows["torch"] == rows["torchvision"] == "not installed"
    assert "GPU" not in rows


def test_library_that_lacks_torch_is_not_called_absent(packages, monkeypatch):
    packages("torchvision", "import torch\n")
    hide(monkeypatch, "torch")
    assert report_rows()["torchvision"] == "installed, but needs torch, which is missing"


def test_version_and_missing_extension_of_detectron2(packages):
    packages("detectron2", '__version__ = "0.6+test"\n')
    rows = report_rows()
    assert rows["detectron2"] == "0.6+test"
    assert rows["detectron2._C"] == "not installed"
    assert rows["Detectron2 lacks"].startswith("rotated boxes")


def test_extension_that_loads(packages, tmp_path):
    packages("detectron2", '__version__ = "0.6+test"\n')
    (tmp_path / "detectron2" / "_C.py").write_text("")
    rows = report_rows()
    assert rows["detectron2._C"] == "loads"
    assert "Detectron2 lacks" not in rows


def test_broken_libraries_are_reported_with_their_error(packages, tmp_path):
    packages("detectron2", "")
    (tmp_path / "detectron2" / "_C.py").write_text('raise OSError("libcudart.so:\\n not found")')
    rows = report_rows()
    assert rows["detectron2"] == "version unknown"
    expected = "installed, but fails to import: OSError: libcudart.so: not found"
    assert rows["detectron2._C"] == expected


def test_missing_dependency_of_a_library_is_named(packages):
    packages("detectron2", "import a_module_that_nobody_has\n")
    expected = "installed, but needs a_module_that_nobody_has, which is missing"
    assert report_rows()["detectron2"] == expected


@pytest.mark.parametrize("value", [None, "datasets folder"])
def test_dataset_root(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    else:
        monkeypatch.setenv("DETECTRON2_DATASETS", value)
    assert report_rows()["DETECTRON2_DATASETS"] == (value or "not set")
