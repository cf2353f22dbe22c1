"""Damaged predictions given to `evaluate` and `postprocess`: numbers, or one sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from damage import NUM_INPUTS, check_damage

from iff_detectron2_cli.main import main


@pytest.fixture
def dataset(tiny_vid, clean_catalogs) -> str:
    return f"damaged=imagenet_vid:{tiny_vid(lengths=(3, 2))}@VID_val_videos"


def write_json(path: Path, tiny_vid) -> None:
    results = [
        {
            **{"image_id": row + 1, "video_id": f"train/video_{video}", "frame_index": frame},
            **{"category_id": 8, "score": 0.75 - row / 10},
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
        for row, (video, frame) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)])
        for x1, y1, x2, y2 in [tiny_vid.box(video, frame)]
    ]
    path.write_text(json.dumps(results))


def write_text(path: Path, tiny_vid) -> None:
    path.write_text("".join(f"{t} 9 0.7500 4.00 6.00 24.00 30.00\n" for t in range(1, 6)))


def run(capsys, *words: str | Path) -> None:
    """Run a verb; a sentence of its becomes the error that it came from."""
    code = main([str(word) for word in words])
    err = capsys.readouterr().err.splitlines()
    if code == 2:
        # What it read is said before, where a bar went; the sentence is the last line.
        assert err[-1].startswith(f"iff-detectron2 {words[0]}: ")
        raise ValueError(err[-1])
    assert code == 0


def numbers(value) -> list[float]:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [value] if isinstance(value, float) else []


@NUM_INPUTS
@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_evaluate(dataset, tiny_vid, tmp_path, capsys, suffix, num_inputs):
    path = tmp_path / f"predictions{suffix}"
    {".json": write_json, ".txt": write_text}[suffix](path, tiny_vid)
    out = tmp_path / "out"

    def read() -> None:
        run(capsys, "evaluate", path, "--dataset", dataset, "--output", out)
        found = numbers(json.loads((out / "results.json").read_text())["bbox"])
        assert found
        assert all(0 <= number <= 100 for number in found)

    assert check_damage(path, read, num_inputs) > num_inputs / 4


@NUM_INPUTS
@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_postprocess(dataset, tiny_vid, tmp_path, capsys, suffix, num_inputs):
    path = tmp_path / f"predictions{suffix}"
    {".json": write_json, ".txt": write_text}[suffix](path, tiny_vid)
    out, tracks = tmp_path / "out.json", tmp_path / "tracks.csv"
    known = () if suffix == ".json" else ("--dataset", dataset)

    def read() -> None:
        out.unlink(missing_ok=True)
        try:
            run(capsys, "postprocess", path, out, "--tracks", tracks, "--workers", "1", *known)
        except ValueError:
            assert not out.exists()  # nothing that could be taken for a result
            raise
        results = json.loads(out.read_text())
        assert all(0 <= r["score"] <= 1 for r in results)
        assert all(math.isfinite(x) for r in results for x in r["bbox"])

    assert check_damage(path, read, num_inputs) > num_inputs / 4
