"""Report of the versions a bug report needs."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from types import ModuleType

from tabulate import tabulate

from .parallel import usable_cores

# Module, and the distribution that carries its version where the module itself has none.
_LIBRARIES = (
    ("torch", "torch"),
    ("torchvision", "torchvision"),
    ("triton", "triton"),
    ("numpy", "numpy"),
    ("cv2", "opencv-python"),
    ("pycocotools", "pycocotools"),
    ("fvcore", "fvcore"),
    ("detectron2", "detectron2"),
    ("detectron2._C", ""),
)
# What Detectron2 lacks where its compiled part does not load, as the published wheel's does with
# no torch from 2.6 on.
WITHOUT_COMPILED_PART = "rotated boxes and its own deformable layers, which are compiled"


def collect_env_report() -> str:
    """Table of the versions of system, libraries and GPU, one `name  value` a line.

    Every library may be missing or broken; the report then says so.
    """
    rows = [
        ("iff_detectron2", _own_version()),
        ("Python", f"{platform.python_version()} ({platform.python_implementation()})"),
        ("OS", platform.platform()),
        ("CPU", f"{platform.machine()}, {usable_cores()} of {os.cpu_count()} cores usable"),
    ]
    for module_name, distribution in _LIBRARIES:
        module, state = _try_import(module_name)
        rows.append((module_name, state if module is None else _version(module, distribution)))
        if module_name == "torch":
            rows += _torch_rows(module)
        if module_name == "detectron2._C" and module is None and "detectron2" in sys.modules:
            rows.append(("Detectron2 lacks", WITHOUT_COMPILED_PART))
    rows.append(("DETECTRON2_DATASETS", os.environ.get("DETECTRON2_DATASETS") or "not set"))
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _try_import(name: str) -> tuple[ModuleType | None, str]:
    # Whatever a broken installation raises (an OSError of a missing shared library, say) is
    # what this report is for, hence every Exception is told, not raised.
    try:
        if importlib.util.find_spec(name) is None:
            return None, "not installed"
        return importlib.import_module(name), "loads"
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            return None, "not installed"
        if missing:
            return None, f"installed, but needs {missing}, which is missing"
        message = " ".join(str(error).split())
        return None, f"installed, but fails to import: {type(error).__name__}: {message}"


def _version(module: ModuleType, distribution: str) -> str:
    if not distribution:
        return "loads"
    version = getattr(module, "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            version = "version unknown"
    return str(version)


def _torch_rows(torch: ModuleType | None) -> list[tuple[str, str]]:
    if torch is None:
        return []
    rows = [
        (
            "torch threads",
            f"{torch.get_num_threads()}, between operators {torch.get_num_interop_threads()}",
        ),
        ("CUDA of torch", torch.version.cuda or "built without CUDA"),
    ]
    if not torch.cuda.is_available():
        return [*rows, ("GPU", "none")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        rows.append(
            (
                f"GPU {index}",
                f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB, "
                f"compute capability {properties.major}.{properties.minor}",
            )
        )
    return [*rows, ("cuDNN", str(torch.backends.cudnn.version()))]


def _own_version() -> str:
    try:
        return importlib.metadata.version("iff_detectron2")
    except importlib.metadata.PackageNotFoundError:
        return "not installed, run from its source folder"
