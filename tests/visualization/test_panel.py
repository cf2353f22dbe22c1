from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from iff_detectron2.structures import Detections
from iff_detectron2.visualization.flow_colors import flow_to_color
from iff_detectron2.visualization.panel import AlignmentRow, alignment_panel, feature_energy

RNG = np.random.default_rng(0)


def make_row(height=80, width=112, cells=(5, 7), **changes) -> AlignmentRow:
    frame = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    row = AlignmentRow(
        key_frame=frame,
        ref_frame=frame,
        offset=-4,
        flow=RNG.normal(size=(2, *cells)),
        feature=RNG.normal(size=(16, *cells)),
        weight=RNG.uniform(size=cells),
        detections=Detections([0], [[10.0, 30, 50, 70]], [0.9], [1]),
    )
    return replace(row, **changes)


def columns_of(panel: np.ndarray, y: int) -> list[tuple[int, int]]:
    """Spans of the tiles that cross a line of the panel: what is not the white between them."""
    ink = np.concatenate([[False], (panel[y] != 255).any(axis=1), [False]])
    edges = np.flatnonzero(np.diff(ink.astype(int)))
    return list(zip(edges[::2], edges[1::2], strict=True))


def constant_flow_row(dx: float, **changes) -> AlignmentRow:
    dark = np.full((80, 112, 3), 60, np.uint8)
    flow = np.zeros((2, 5, 7))
    flow[0] = dx
    return make_row(key_frame=dark, ref_frame=dark, flow=flow, feature=np.ones((5, 7)), **changes)


def test_six_columns_of_equal_tiles():
    panel = alignment_panel([constant_flow_row(1.0)], ("a", "b"), tile_size=224)
    spans = columns_of(panel, panel.shape[0] - 100)
    assert [end - start for start, end in spans] == [224] * 6
    assert panel.dtype == np.uint8


def test_one_row_of_tiles_for_each_ref():
    one, two, three = (
        alignment_panel([make_row()] * count, ("a", "b"), tile_size=112) for count in (1, 2, 3)
    )
    assert one.shape[1] == two.shape[1] == three.shape[1]
    step = two.shape[0] - one.shape[0]
    assert step == three.shape[0] - two.shape[0]
    assert 80 < step < 100


def test_columns_without_content_are_left_out():
    bare = replace(constant_flow_row(1.0), weight=None, detections=None)
    panel = alignment_panel([bare], tile_size=112)
    assert len(columns_of(panel, panel.shape[0] - 45)) == 4
    mixed = alignment_panel([bare, constant_flow_row(1.0)], ("a", "b"), tile_size=112)
    assert len(columns_of(mixed, mixed.shape[0] - 45)) == 6


def test_frames_stand_in_their_columns_unchanged():
    # Random pixels: the tile at its own size must be found again pixel for pixel.
    row = make_row(name="", weight=None, detections=None)
    panel = alignment_panel([row], tile_size=112)
    y, x = np.argwhere(
        (panel[:-79, :-111] == row.key_frame[0, 0]).all(axis=2)
        & (panel[79:, 111:] == row.key_frame[-1, -1]).all(axis=2)
    )[0]
    np.testing.assert_array_equal(panel[y : y + 80, x : x + 112], row.key_frame)


def test_flow_is_shown_in_pixels_of_the_frame():
    # 16 pixels a cell on both axes; half a cell is 8 pixels, half of the scale of 16.
    row = constant_flow_row(0.5)
    np.testing.assert_allclose(row.flow_in_pixels()[0], 8.0)
    panel = alignment_panel([row], ("a", "b"), tile_size=224, max_displacement=16.0)
    start, end = columns_of(panel, panel.shape[0] - 100)[3]
    expected = flow_to_color(np.array([8.0, 0.0]).reshape(2, 1, 1), 16.0)[0, 0]
    assert panel[panel.shape[0] - 80, (start + end) // 2].tolist() == expected.tolist()


def test_flow_of_a_padded_input_is_measured_by_its_own_stride():
    # The maps cover 96 x 128 pixels, of which the frame is the upper left 80 x 112.
    row = make_row(cells=(6, 8), flow=np.ones((2, 6, 8)), weight=None, map_extent=(96.0, 128.0))
    np.testing.assert_allclose(row.flow_in_pixels(), 16.0)


def test_padding_is_cropped_from_the_maps():
    # Energy 1 only in the last column and row of cells, which lie outside the frame.
    energy = np.zeros((6, 8))
    energy[-1], energy[:, -1] = 1.0, 1.0
    flow, dark = np.ones((2, 6, 8)), np.full((80, 112, 3), 60, np.uint8)
    row = make_row(
        key_frame=dark, ref_frame=dark, cells=(6, 8), flow=flow, feature=energy, weight=None,
        map_extent=(96.0, 128.0),
    )  # fmt: skip
    panel = alignment_panel([row], ("a", "b"), tile_size=112)
    padded_y = panel.shape[0] - 50
    start, end = columns_of(panel, padded_y)[2]
    inner = panel[padded_y, start : end - 9]
    assert (inner == inner[0]).all()


def test_zero_flow_is_white():
    still = alignment_panel([constant_flow_row(0.0)], ("a", "b"), tile_size=224)
    spans = columns_of(still, still.shape[0] - 100)
    # The white flow tile runs into the gaps: one span fewer.
    assert len(spans) == 5


@pytest.mark.parametrize(("height", "width"), [(200, 40), (16, 300), (1, 1), (97, 31)])
def test_any_aspect(height, width):
    row = make_row(height, width, cells=(3, 2))
    panel = alignment_panel([row, make_row()], ("a", "b"), tile_size=64, title="a title")
    assert panel.dtype == np.uint8
    longer = max(height, width)
    assert panel.shape[0] >= round(height * 64 / longer) + round(80 * 64 / 112)


def test_map_of_one_cell():
    panel = alignment_panel([make_row(cells=(1, 1))], ("a", "b"), tile_size=64)
    assert panel.shape[2] == 3


def test_energy_is_the_sum_of_absolute_channels():
    feature = np.array([[[1.0, -2.0]], [[-3.0, 0.5]]])
    np.testing.assert_allclose(feature_energy(feature), [[4.0, 2.5]])
    np.testing.assert_allclose(feature_energy(np.array([[4.0, 2.5]])), [[4.0, 2.5]])


def test_inputs_are_not_changed():
    row = make_row(name="a name")
    copies = {name: np.copy(getattr(row, name)) for name in ("key_frame", "flow", "feature")}
    alignment_panel([row], ("a", "b"), tile_size=112)
    for name, value in copies.items():
        np.testing.assert_array_equal(getattr(row, name), value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ref_frame": np.zeros((8, 8, 3), np.uint8)}, "must have one size"),
        ({"flow": np.zeros((3, 5, 7))}, r"flow must have shape \[2, h, w\], got \[3, 5, 7\]"),
        ({"feature": np.zeros((16, 7, 5))}, r"feature must have shape \[C, 5, 7\]"),
        ({"weight": np.zeros((1, 5, 7))}, r"weight must have shape \[5, 7\]"),
        ({"weight": np.full((5, 7), np.nan)}, "weight of the neighbour at -4 is not finite"),
        ({"flow": np.full((2, 5, 7), np.inf)}, "flow of the neighbour at -4 is not finite"),
        ({"map_extent": (40.0, 112.0)}, "smaller than the frame"),
    ],
)
def test_rows_that_do_not_fit_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_row(**changes)


def test_wrong_panels_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        alignment_panel([])
    with pytest.raises(ValueError, match="tile_size must be at least 64"):
        alignment_panel([make_row()], tile_size=10)
    with pytest.raises(ValueError, match="class 1 is not the index of a class of 1 class names"):
        alignment_panel([make_row()], ("a",))
