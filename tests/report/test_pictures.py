"""The drawn intervals and curves. If these passed wrongly, a picture would show another interval than the table beside it."""

from xml.etree.ElementTree import Element, fromstring

import pytest

from medvl_lib.report.pictures import CURVES_HEIGHT, LABELS, LEFT, MARGIN, VALUES, WIDTH, Mark, draw_curves, draw_intervals

SPACE = "{http://www.w3.org/2000/svg}"
FIRST, LAST = LABELS + 12, WIDTH - VALUES - 12


def marked(*marks: Mark, is_difference: bool = False) -> Element:
    return fromstring(draw_intervals(marks, title="t", is_difference=is_difference))  # noqa: S314 (our own drawing)


def test_a_mean_stands_where_it_belongs_on_the_axis():
    drawn = marked(Mark(label="adapter", mean=0.25, low=0.0, high=1.0))
    [circle] = drawn.findall(f"{SPACE}circle")
    assert float(circle.get("cx")) == pytest.approx(FIRST + 0.25 * (LAST - FIRST))
    [whisker] = [line for line in drawn.findall(f"{SPACE}line") if line.get("class") == "ink" and line.get("y1") == line.get("y2")]
    assert (float(whisker.get("x1")), float(whisker.get("x2"))) == (FIRST, LAST)


def test_a_difference_is_drawn_around_a_line_at_zero():
    drawn = marked(Mark(label="minus", mean=-0.1, low=-0.2, high=0.2), is_difference=True)
    [zero] = [line for line in drawn.findall(f"{SPACE}line") if line.get("class") == "zero"]
    assert float(zero.get("x1")) == pytest.approx((FIRST + LAST) / 2)
    assert "minus -0.100 (-0.200 to +0.200)" in drawn.get("aria-label")


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e-9, -3.0])
def test_a_single_mean_without_an_interval_is_drawn(mean: float):
    [circle] = marked(Mark(label="one", mean=mean, low=None, high=None)).findall(f"{SPACE}circle")
    assert FIRST <= float(circle.get("cx")) <= LAST


def test_labels_are_escaped():
    assert [text.text for text in marked(Mark(label="<b> & co", mean=0.5, low=None, high=None)).findall(f"{SPACE}text")][-2] == "<b> & co"


def test_a_curve_passes_through_its_points_and_an_empty_one_is_left_out():
    drawn = fromstring(draw_curves({"training": [(0.0, 2.0), (10.0, 1.0)], "held out": []}, title="loss"))  # noqa: S314 (our own drawing)
    curve, legend = drawn.findall(f"{SPACE}polyline")
    points = [tuple(map(float, point.split(","))) for point in curve.get("points").split()]
    assert (points[0][0], points[1][0]) == (LEFT, WIDTH - MARGIN)
    assert points[1][1] == pytest.approx((points[0][1] + CURVES_HEIGHT - MARGIN) / 2)
    assert legend.get("points").startswith(str(WIDTH - 280))
