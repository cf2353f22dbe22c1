"""Creates the virtual environment of this checkout; standard library only.

    python3 dev/setup_env.py [--venv .venv] [--detectron2 REQUIREMENT_OR_PATH] [--constraints FILE]

Detectron2 is not published under its own name, so it cannot be an ordinary dependency. This script
keeps a Detectron2 that is importable already, installs the one that `--detectron2` names, or else
the published wheel of Detectron2's main branch of late 2024, checked by its hash.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHEEL = "sal-detectron2==0.7.2"
WHEEL_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
# The wheel is tagged for Python 3.10 because of its compiled part, which is bound to a torch older
# than 2.6. Its Python part runs anywhere, and Detectron2 does without the compiled one.
WHEEL_TAGS = ["--only-binary=:all:", "--python-version=3.10", "--implementation=cp"]


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


def can_import(python: str | Path, module: str) -> bool:
    probe = [str(python), "-c", f"import {module}"]
    return subprocess.run(probe, capture_output=True, cwd=tempfile.gettempdir()).returncode == 0


def install_published_wheel(python: Path) -> None:
    """Installs the package of the wheel, but not the top-level `tools` it would drop beside it."""
    purelib = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    site = Path(subprocess.run(purelib, check=True, capture_output=True, text=True).stdout.strip())
    with tempfile.TemporaryDirectory() as tmp:
        requirements, target = Path(tmp) / "requirements.txt", Path(tmp) / "target"
        requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        pip = [python, "-m", "pip", "install", "--no-deps", "--require-hashes", *WHEEL_TAGS]
        run(*pip, "--target", target, "-r", requirements)
        for source in (target / "detectron2", *target.glob("sal_detectron2-*.dist-info")):
            shutil.rmtree(site / source.name, ignore_errors=True)
            shutil.move(source, site / source.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--detectron2", default="", help="pip requirement or path of a checkout")
    parser.add_argument(
        "--constraints",
        type=Path,
        default=ROOT / "constraints.txt",
        help="versions for pip: dev/oldest.txt, or /dev/null for the newest there are",
    )
    args = parser.parse_args()
    args.venv = args.venv.absolute()  # the probes run elsewhere
    if sys.version_info < (3, 10):  # noqa: UP036, whatever `python3` is runs this file
        version = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"Python 3.10 or newer is needed, {sys.executable} is {version}: make PYTHON=...")

    start = time.monotonic()

    def step(text: str) -> None:
        print(f"[setup +{time.monotonic() - start:3.0f} s] {text}", flush=True)

    python = args.venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    # A Detectron2 of the base interpreter is bound to the torch beside it: share both.
    share = not args.detectron2 and can_import(sys.executable, "detectron2.config")
    if not python.exists():
        step(f"creating {args.venv}" + (" on top of the installed detectron2" if share else ""))
        site_packages = ["--system-site-packages"] if share else []
        run(sys.executable, "-m", "venv", *site_packages, args.venv)
    keep = not args.detectron2 and can_import(python, "detectron2.config")
    # The tested versions, unless they would pull torch away under a Detectron2 that is kept.
    constraints = [] if keep else ["-c", args.constraints]
    step("installing torch and the other packages (about 2 minutes and 5 GB the first time)")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    run(*pip, *constraints, "-e", f"{ROOT}[dev,detectron2]")
    if not can_import(python, "cv2"):
        step("no graphics libraries for opencv-python here: installing the headless one")
        run(python, "-m", "pip", "uninstall", "-y", "opencv-python")
        run(*pip, *constraints, "opencv-python-headless")
    if args.detectron2:
        step(f"installing {args.detectron2} as detectron2")
        # It has another name than the published wheel, so pip would mix the two.
        run(python, "-m", "pip", "uninstall", "-y", WHEEL.partition("==")[0])
        run(*pip, *constraints, "setuptools", "wheel")
        run(*pip, *constraints, "--no-build-isolation", args.detectron2)
    elif keep:
        step("keeping the detectron2 that is installed")
    else:
        step(f"installing detectron2 ({WHEEL})")
        install_published_wheel(python)
    if not can_import(python, "detectron2.config"):
        sys.exit("detectron2 was installed but cannot be imported; see the messages above")
    if not can_import(python, "torch, detectron2._C"):
        step(
            "note: the compiled part of this detectron2 does not load here (that of the published "
            "wheel needs a torch older than 2.6). All of iff_detectron2 works; rotated boxes and "
            "Detectron2's own deformable layers are missing. A detectron2 that is built from its "
            "repository has them: make setup DETECTRON2=<path of a checkout>"
        )
    step("done")


if __name__ == "__main__":
    main()
