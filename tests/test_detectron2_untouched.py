"""Importing this package leaves Detectron2 as it is.

The wheel brings no tests of Detectron2, so this compares what it is and does: the code of its
functions, its registries, configs, losses and outputs of its detectors, and what all share.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.modeling import GeneralizedRCNN
from detectron2_fingerprint import functions_of

SCRIPT = Path(__file__).with_name("detectron2_fingerprint.py")


def fingerprint(*modules: str) -> dict:
    command = [sys.executable, str(SCRIPT), *modules]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1]
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout)


@pytest.mark.slow
def test_detectron2_is_the_same_with_this_package_and_all_its_rooms() -> None:
    alone, beside = fingerprint(), fingerprint("iff_detectron2", "iff_detectron2_cli")
    assert alone.keys() == beside.keys()
    for kind, marks in alone.items():
        assert beside[kind] == marks, kind
    assert len(alone["functions"]) > 1000
    assert len(alone["registries"]["detectron2.modeling.META_ARCH_REGISTRY"]) > 4
    assert not [name for name in alone["lacking"] if name.startswith("detectron2.modeling")]
    assert all(len(alone[name]) > 6 for name in alone if name.endswith(".yaml"))


def test_a_changed_method_and_a_changed_function_would_show(monkeypatch) -> None:
    module = ModuleType("some")
    module.GeneralizedRCNN, module.work = GeneralizedRCNN, lambda x: x
    before = functions_of("some", module)
    own = GeneralizedRCNN.inference
    monkeypatch.setattr(GeneralizedRCNN, "inference", lambda self, x: own(self, x))
    monkeypatch.setattr(module, "work", lambda x: x + 1)
    after = functions_of("some", module)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"some.GeneralizedRCNN.inference", "some.work"}
