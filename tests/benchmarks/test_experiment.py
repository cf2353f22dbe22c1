"""What experiments share, with steps that take no time."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
from experiment import (
    ResultsFile,
    finished,
    markdown_table,
    mean_and_deviation,
    origin,
    read_metrics,
    replace_table,
    run_step,
)
from folder_owner import owned_by_another

ORIGIN = {"commit": "abc", "versions": "torch 2", "machine": "a, 1 thread"}
APPEND = "import sys; open(sys.argv[1], 'a').write('x')"


def test_a_step_runs_once_and_tells_where_and_what_it_cost(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    first = run_step(["-c", APPEND, str(trace)], tmp_path / "run", "write")
    again = run_step(["-c", APPEND, str(trace)], tmp_path / "run", "write")
    assert trace.read_text() == "x"
    assert first == again == finished(tmp_path / "run", "write")
    assert first.seconds >= 0
    assert first.memory_mib > 1
    assert {name: getattr(first, name) for name in ORIGIN} == origin()


def test_a_step_that_fails_names_its_log_and_runs_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"train ended with code 3: see the end of .*train\.log"):
        run_step(["-c", "import sys; sys.exit('no data') if 0 else sys.exit(3)"], tmp_path, "train")
    with pytest.raises(RuntimeError, match="ended with code 1"):
        run_step(["-c", "raise SystemExit('no data')"], tmp_path, "train")
    assert "no data" in (tmp_path / "train.log").read_text()
    assert finished(tmp_path, "train") is None
    run_step(["-c", ""], tmp_path, "train")
    assert finished(tmp_path, "train") is not None


@pytest.mark.parametrize("text", ["", '{"seconds": 1', "[]", '{"seconds": 1}'])
def test_a_damaged_note_of_a_step_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.done.json").write_text(text)
    with pytest.raises(ValueError, match=r"train\.done\.json cannot be read .*remove it to do"):
        run_step(["-c", ""], tmp_path, "train")


def test_rows_that_cannot_be_written_leave_those_that_are(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "results.csv", ("row",), ("mAP50",))
    file.add({"row": "a", "mAP50": 1.0, **ORIGIN})
    before = file.path.read_bytes()
    with pytest.raises(UnicodeEncodeError):
        file.add({"row": "b", "mAP50": "\ud800", **ORIGIN})
    assert file.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("experiment", ["ablation", "adaptation"])
def test_one_process_works_on_an_experiment(tmp_path: Path, monkeypatch, experiment: str) -> None:
    places = ["--output", str(tmp_path), "--csv", str(tmp_path / "results.csv")]
    monkeypatch.setattr(sys, "argv", [experiment, *places])
    with (
        owned_by_another(tmp_path),
        pytest.raises(BlockingIOError, match="is in use by another process"),
    ):
        importlib.import_module(experiment).main()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"] or not any(tmp_path.iterdir())


def test_rows_are_told_apart_by_their_keys(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "new" / "results.csv", ("row", "seed"), ("mAP50",))
    assert file.rows() == []
    for row, seed, value in (("b", 0, 1.0), ("a", 1, 2.0), ("b", 0, 3.25), ("a", 0, 4)):
        file.add({"row": row, "seed": seed, "mAP50": value, "unused": 1, **ORIGIN})
    assert [(r["row"], r["seed"], r["mAP50"]) for r in file.rows()] == [
        ("a", "0", "4"),
        ("a", "1", "2.0000"),
        ("b", "0", "3.2500"),
    ]
    assert file.rows()[0]["commit"] == "abc"
    assert file.has(row="a", seed=1)
    assert not file.has(row="b", seed=1)
    with pytest.raises(ValueError, match="has the columns"):
        ResultsFile(file.path, ("row",), ("mAP50",)).rows()


def test_metrics_of_a_result_and_what_it_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    bbox = {"mAP50": 50.5, "mAP50-slow": 60.0, "mAP50-fast": None}
    path.write_text(json.dumps({"bbox": bbox, "viewing": {"stability_error": 0.25}}))
    metrics = read_metrics(path)
    assert metrics["mAP50"] == 50.5
    assert metrics["slow"] == 60
    assert metrics["stability_error"] == 0.25
    assert all(math.isnan(metrics[name]) for name in ("medium", "fast", "average_delay"))
    path.write_text(json.dumps({"bbox": bbox, "viewing": None}))
    assert math.isnan(read_metrics(path)["stability_error"])


def test_mean_and_deviation_by_hand() -> None:
    assert mean_and_deviation(["1", 2, 6.0]) == "3.0 ± 2.6"  # sqrt((4 + 1 + 9) / 2)
    assert mean_and_deviation([1.26]) == "1.3"
    assert mean_and_deviation([]) == "-"
    assert mean_and_deviation(["nan", float("nan")]) == "-"
    assert mean_and_deviation(["nan", 1, "3"], 2) == "2.00 ± 1.41"


def test_a_table_takes_its_place_in_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- one -->\nold\n<!-- end of one -->\nafter\n")
    table = markdown_table(["a", "b"], [["1", 2]])
    assert table == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    replace_table(page, "one", table)
    replace_table(page, "one", table)
    assert page.read_text() == f"before\n<!-- one -->\n{table}\n<!-- end of one -->\nafter\n"
    with pytest.raises(ValueError, match="no place for the table 'two'"):
        replace_table(page, "two", table)
