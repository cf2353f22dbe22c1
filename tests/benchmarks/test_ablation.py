"""The ablation: two rows of one step, tables by hand, and docs against the CSV."""

from __future__ import annotations

import json
from pathlib import Path

import ablation
import pytest
from toy_models import TINY

from iff_detectron2.data.moving_shapes import generate_moving_shapes


@pytest.mark.slow
def test_two_rows_are_trained_measured_and_compared(tmp_path, monkeypatch, capsys) -> None:
    sizes = {"num_train_videos": 1, "num_val_videos": 2, "num_frames": 4, "size": (64, 64)}
    generate_moving_shapes(tmp_path / "data" / "moving_shapes", progress=False, **sizes)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "data"))
    output, csv = tmp_path / "runs", tmp_path / "ablation.csv"
    places = ["--output", str(output), "--csv", str(csv), "--samples", "5"]
    quick = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "1", "DATALOADER.NUM_WORKERS", "0"]
    quick += ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"]
    command = ["--seeds", "4", *places, "--rows", "rfcn", "similarity", "--plot"]
    command += [str(tmp_path / "plot.png"), *map(str, TINY), *quick]
    ablation.main(command)
    rows = ablation.results_file(csv).rows()
    assert [(row["row"], row["seed"]) for row in rows] == [("rfcn", "4"), ("similarity", "4")]
    assert all(float(row["seconds"]) > 0 and float(row["memory_mib"]) > 50 for row in rows)
    for row in rows:
        results = output / f"{row['row']}_s4" / "inference" / ablation.DATASET / "results.json"
        assert float(row["mAP50"]) == pytest.approx(
            json.loads(results.read_text())["bbox"]["mAP50"], abs=1e-4
        )
    paired = ablation.differences_file(csv).rows()
    assert {(r["row"], r["against"], r["metric"]) for r in paired} == {
        ("similarity", "rfcn", metric) for metric in ablation.COMPARED
    }
    assert (tmp_path / "plot.png").stat().st_size > 1000
    # The same command has nothing left to do.
    before = csv.read_text(), {p: p.stat().st_mtime_ns for p in output.rglob("*.pth")}
    ablation.main(command)
    assert before == (csv.read_text(), {p: p.stat().st_mtime_ns for p in output.rglob("*.pth")})
    assert "FGFA's weights, no alignment" in capsys.readouterr().out


def test_a_finished_run_is_taken_over(tmp_path: Path) -> None:
    folder = tmp_path / "rfcn_s1"
    found = folder / "inference" / ablation.DATASET
    found.mkdir(parents=True)
    (folder / "model_final.pth").write_bytes(b"")
    (found / "results.json").write_text(json.dumps({"bbox": {"mAP50": 51.5}, "viewing": None}))
    lines = [{"iteration": 9, "time": 0.5}, {"iteration": 19, "time": 1.5}]
    lines += [{"iteration": 20, "iff/epe_held_out": 0.75}]
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    assert ablation.run("rfcn", 1, tmp_path, [], "abc") == folder
    values = ablation.measured(folder)
    assert values["mAP50"] == 51.5
    assert values["seconds"] == 20.0
    assert values["epe"] == 0.75
    assert values["commit"] == "abc"
    assert values["machine"] == "unknown"


def test_tables_by_hand() -> None:
    numbers = dict.fromkeys((*ablation.METRICS, *ablation.ALIGNMENT), "1.5")
    rows = [
        {**numbers, "row": "iff_net_C", "seed": seed, "mAP50": value, "seconds": "90"}
        for seed, value in (("0", "80"), ("1", "84"))
    ]
    keys = {"row": "iff_net_C", "against": "rfcn", "metric": "mAP50"}
    differences = [
        {**keys, "seed": "0", "difference": "10", "low": "4", "high": "15"},
        {**keys, "seed": "1", "difference": "12", "low": "6", "high": "17"},
    ]
    made = ablation.tables(rows, differences)
    line = made["ablation"].splitlines()[2].split(" | ")
    assert line[:4] == ["| IFF-Net-C", "2", "82.0 ± 2.8", "1.5 ± 0.0"]
    assert line[-1] == "1.5 ± 0.0 |"
    wanted = ["| IFF-Net-C", "11.0 ± 1.4 [+5.0, +16.0]", "-", "-", "- |"]
    assert made["ablation differences"].splitlines()[2].split(" | ") == wanted


def test_the_docs_show_what_the_files_hold() -> None:
    files = (make(ablation.RESULTS) for make in (ablation.results_file, ablation.differences_file))
    runs, differences = (file.rows() for file in files)
    made = ablation.tables(runs, differences)
    page = ablation.PAGE.read_text()
    for name, table in made.items():
        shown = table if runs else "Not measured yet."
        assert f"<!-- {name} -->\n{shown}\n<!-- end of {name} -->" in page
