"""The proof of adaptation: tables by hand, and docs against the CSV."""

from __future__ import annotations

import adaptation


def row(method: str, seed: int, value: float, postprocess: str = "none", test: str = "val") -> dict:
    numbers = dict.fromkeys(("slow", "medium", "fast"), value + 1)
    numbers |= {"mAP50": value, "stability_error": 0.5, "average_delay": 2.0}
    keys = {"part": "moving_shapes", "method": method, "set": test, "postprocess": postprocess}
    return {name: str(v) for name, v in {**keys, "seed": seed, **numbers}.items()}


def test_tables_by_hand() -> None:
    rows = [
        row("plain", 0, 60.0),
        row("plain", 1, 70.0),
        row("adapted", 0, 64.0),
        row("adapted", 1, 76.0),
        row("adapted", 1, 80.0, "seq_nms_plus"),
        row("plain", 0, 90.0, test="clean_val"),
        row("adapted", 0, 89.0, test="clean_val"),
    ]
    lines = adaptation.tables(rows)["moving_shapes"].splitlines()
    assert [line.split(" | ")[:5] for line in lines[2:]] == [
        ["| plain", "val", "2", "65.0 ± 7.1", ""],
        ["| plain", "clean_val", "1", "90.0", ""],
        # Each seed over the plain detector of that seed: 4 and 6.
        ["| adapted", "val", "2", "70.0 ± 8.5", "5.0 ± 1.4"],
        ["| adapted + Seq-NMS+", "val", "1", "80.0", "10.0"],
        ["| adapted", "clean_val", "1", "89.0", "-1.0"],
    ]


def test_the_docs_show_what_the_file_holds() -> None:
    made = adaptation.tables(adaptation.results_file(adaptation.RESULTS).rows())
    page = adaptation.PAGE.read_text()
    for name in ("moving_shapes", "fpn", "pets"):
        table = made.get(name, "Not measured yet.")
        assert f"<!-- {name} -->\n{table}\n<!-- end of {name} -->" in page
