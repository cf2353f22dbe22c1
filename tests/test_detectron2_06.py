"""The table of stock detectors holds on Detectron2's last release as it does on its main branch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import detectron2_06
import pytest

TESTS = Path(__file__).parent
ON_BOTH = ["modeling/test_stock_detectors.py", "engine/test_checkpoint.py"]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("detectron2_06")
    try:
        detectron2_06.download(folder)
    except detectron2_06.Unavailable as error:
        pytest.skip(f"Detectron2 0.6 ({detectron2_06.REQUIREMENT}) cannot be downloaded: {error}")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_tests_pass_on_the_release(release):
    path = os.pathsep.join([str(release), str(TESTS)])
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "detectron2_06", "-p", "no:cacheprovider"),
            *("--tb=short", "-W", "ignore", *(str(TESTS / file) for file in ON_BOTH)),
        ],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert f"detectron2: 0.6 from {release}" in result.stdout
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) > 90
    assert "skipped" not in result.stdout.splitlines()[-1]
