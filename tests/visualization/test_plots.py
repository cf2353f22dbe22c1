from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from iff_detectron2.visualization.plots import (
    MOTION_METRICS,
    metric_bars_figure,
    metric_series,
    plot_metric_bars,
    plot_training_curves,
    read_metrics,
    smooth,
    training_figure,
)

LOSSES = ("loss_trl", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg")
SCORES = dict(zip(MOTION_METRICS, (58.2, 69.0, 58.0, 35.5), strict=True))


def make_records(count: int = 40, start: int = 19) -> list[dict]:
    rng = np.random.default_rng(0)
    records = []
    for i in range(count):
        losses = {name: float(rng.uniform(0.1, 1)) for name in LOSSES}
        record = {"iteration": start + 20 * i, "lr": 0.01, "total_loss": sum(losses.values())}
        records.append(record | losses)
    records[-1] |= {f"bbox/{name}": value for name, value in SCORES.items()}
    return records


def write(path, records, end="\n"):
    path.write_text("\n".join(json.dumps(record) for record in records) + end)
    return path


def test_training_curves_are_written(tmp_path):
    png = tmp_path / "plots" / "curves.png"
    plot_training_curves(write(tmp_path / "metrics.json", make_records()), png)
    image = cv2.imread(str(png))
    assert image.shape[0] > 300
    assert image.shape[1] > 600
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100
    assert list(png.parent.iterdir()) == [png]


def test_figure_holds_every_curve_and_point():
    records = make_records()
    losses, evaluation, schedule = training_figure(records).axes
    # A raw and a smoothed line each.
    assert len(losses.lines) == 2 * (len(LOSSES) + 1)
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert sorted(labels) == sorted((*LOSSES, "total_loss"))
    raw = losses.lines[2 * labels.index("loss_trl")]
    np.testing.assert_array_equal(raw.get_ydata(), [record["loss_trl"] for record in records])
    np.testing.assert_array_equal(raw.get_xdata(), [record["iteration"] for record in records])
    assert [line.get_ydata().tolist() for line in evaluation.lines] == [
        [value] for value in SCORES.values()
    ]
    assert len(schedule.lines) == 1
    assert {axes.get_xlabel() for axes in (losses, evaluation, schedule)} == {"iteration"}


def test_figure_without_evaluation_or_rate():
    records = [{"iteration": 5, "total_loss": 0.0}]
    (axes,) = training_figure(records).axes
    assert axes.get_yscale() == "linear"
    records.append({"iteration": 6, "total_loss": 1.0, "lr": 0.1})
    assert len(training_figure(records).axes) == 2
    with pytest.raises(ValueError, match="the metrics hold no loss"):
        training_figure([{"iteration": 5, "lr": 0.1}])


def test_nan_losses_leave_a_gap(tmp_path):
    records = make_records()
    records[7]["loss_cls"] = float("nan")
    path = write(tmp_path / "metrics.json", records)
    _, values = metric_series(read_metrics(path), "loss_cls")
    assert np.flatnonzero(np.isnan(values)).tolist() == [7]
    plot_training_curves(path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_smooth_is_the_mean_of_the_known_refs():
    values = np.array([1.0, 4.0, np.nan, 8.0, 3.0])
    np.testing.assert_allclose(smooth(values, 3), [2.5, 2.5, 6.0, 5.5, 5.5])
    np.testing.assert_array_equal(smooth(values, 1), values)
    assert np.isnan(smooth(np.full(3, np.nan), 3)).all()
    # A window longer than the series is the mean of all that it reaches.
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0]), 7), [1.5, 1.5])
    with pytest.raises(ValueError, match="positive odd number, got 4"):
        smooth(values, 4)


def test_cut_last_line_is_skipped_with_a_warning(tmp_path):
    path = write(tmp_path / "metrics.json", make_records(3), end='\n{"iteration": 79, "lr": 0.')
    with pytest.warns(UserWarning, match=r"metrics.json, line 4: left out"):
        assert len(read_metrics(path)) == 3


def test_whole_last_line_without_newline_is_kept(tmp_path):
    assert len(read_metrics(write(tmp_path / "metrics.json", make_records(3), end=""))) == 3


def test_resumed_training_replaces_what_it_repeats(tmp_path):
    first, again = make_records(5), make_records(2, start=59)
    again[0]["lr"] = 0.5
    records = read_metrics(write(tmp_path / "metrics.json", first + again))
    assert [record["iteration"] for record in records] == [19, 39, 59, 59, 79]
    iterations, rates = metric_series(records, "lr")
    assert iterations.tolist() == [19, 39, 59, 79]
    assert rates.tolist() == [0.01, 0.01, 0.5, 0.01]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"iteration": 1}\n{"iteration": \n{"iteration": 3}\n', "line 2 is not valid JSON"),
        ('{"iteration": 1}\n{"iteration": \n', "line 2 is not valid JSON"),
        ('{"iteration": 1}\n[1, 2]\n', 'line 2 must be a JSON object with an integer "iteration"'),
        ('{"lr": 1}\n', "line 1 must be a JSON object"),
        ('{"iteration": "7"}\n', "line 1 must be a JSON object"),
        ("", "holds no metrics"),
    ],
)
def test_malformed_files_are_named(tmp_path, text, sentence):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_metrics(path)


def test_missing_file_and_wrong_values_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no metrics file"):
        plot_training_curves(tmp_path / "metrics.json", tmp_path / "curves.png")
    with pytest.raises(ValueError, match="'loss_cls' at iteration 3 is not a number: 'high'"):
        training_figure([{"iteration": 3, "loss_cls": "high"}])
    path = write(tmp_path / "metrics.json", make_records(3))
    with pytest.raises(ValueError, match=r"ends in \.png"):
        plot_training_curves(path, tmp_path / "curves.jpg")


def test_bars_have_the_heights_of_the_metrics(tmp_path):
    other = dict.fromkeys(MOTION_METRICS, 10.0) | {"mAP50-fast": float("nan"), "AP50-x": 3.0}
    (axes,) = metric_bars_figure({"IFF-Net": SCORES, "R-FCN": other}).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [*SCORES.values(), 10.0, 10.0, 10.0, 0.0]
    assert [text.get_text() for text in axes.texts][-2:] == ["10.0", "none"]
    plot_metric_bars({"IFF-Net": SCORES}, tmp_path / "bars.png")
    image = cv2.imread(str(tmp_path / "bars.png"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20


def test_wrong_runs_are_named():
    with pytest.raises(ValueError, match="there is no run to draw"):
        metric_bars_figure({})
    with pytest.raises(ValueError, match="run 'R-FCN' has no 'mAP50-slow'"):
        metric_bars_figure({"R-FCN": {"mAP50": 3.0}})
