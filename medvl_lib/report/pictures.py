"""The pictures of a report: intervals and curves, as SVG that takes its colours from the page, or stands alone.

In: numbers and labels. Out: one ``<svg>`` element as text, the same for the same numbers. It is drawn here and not by matplotlib, so that
one picture is readable on a light page, on a dark one and on paper, weighs a few kB, and needs nothing from outside the page.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

WIDTH, LABELS, VALUES, ROW, MARGIN, LEFT = 720, 190, 170, 22, 26, 48  # pixels of the picture's own grid; it scales with the page
CURVES_HEIGHT = 260
NUM_TICKS = 5
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)  # what a tick may count in, times a power of ten

STYLE = """\
svg text { fill: var(--ink); }
svg text.faint { fill: var(--faint); font-size: 11px; }
svg line { stroke: var(--ink); stroke-width: 1.6; }
svg line.grid { stroke: var(--rule); stroke-width: 1; }
svg line.zero { stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 3 3; }
svg line.accent { stroke: var(--accent); stroke-width: 2; }
svg circle { fill: var(--ink); }
svg circle.accent { fill: var(--accent); }
svg .curve { fill: none; stroke: var(--faint); stroke-width: 1.2; }
svg .curve.accent { stroke: var(--accent); stroke-width: 2; }"""
"""How the parts of a picture look, in colours that the page around it names."""
ALONE = (
    "svg { --ink: #1a1a1a; --faint: #5f6670; --rule: #d5d9de; --accent: #0063a5; background: #ffffff;"
    ' font: 12px system-ui, "DejaVu Sans", sans-serif; }'
)
"""The same colours and letters where there is no page: dark on white, whatever is around it."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A mean with its interval on one row."""

    label: str
    mean: float
    low: float | None
    high: float | None
    is_emphasized: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Numbers -> pixels."""

    low: float
    high: float
    first_pixel: float
    last_pixel: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first_pixel + share * (self.last_pixel - self.first_pixel), 2)

    def ticks(self) -> list[float]:
        """Round numbers from end to end."""
        step = _step(self.high - self.low)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]


def _step(span: float) -> float:
    power = 10.0 ** math.floor(math.log10(span / NUM_TICKS))
    return next(step * power for step in STEPS if step * power * NUM_TICKS >= span * (1 - 1e-9))


def _axis(values: Sequence[float], first_pixel: float, last_pixel: float, *, has_zero: bool) -> _Axis:
    """An axis from tick to tick around all values; one that shows 0 where that is the end of the scale."""
    shown = [*values, *([0.0] if has_zero else [])]
    low, high = min(shown), max(shown)
    if low == high:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    step = _step(high - low)
    return _Axis(
        low=math.floor(low / step + 1e-9) * step, high=math.ceil(high / step - 1e-9) * step, first_pixel=first_pixel, last_pixel=last_pixel
    )


def _svg(height: float, title: str, description: str) -> Element:
    return Element("svg", {
        "viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "xmlns": "http://www.w3.org/2000/svg", "aria-label": f"{title}. {description}",
    })  # fmt: skip


def _text(parent: Element, x: float, y: float, text: str, **attributes: str) -> None:
    SubElement(parent, "text", {"x": f"{x:g}", "y": f"{y:g}", **attributes}).text = text


def _line(parent: Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    SubElement(parent, "line", {"x1": f"{x1:g}", "y1": f"{y1:g}", "x2": f"{x2:g}", "y2": f"{y2:g}", "class": kind})


def _told(mark: Mark, sign: str) -> str:
    if mark.low is None or mark.high is None:
        return f"{mark.mean:{sign}.3f} (no interval)"
    return f"{mark.mean:{sign}.3f} ({mark.low:{sign}.3f} to {mark.high:{sign}.3f})"


def draw_intervals(marks: Sequence[Mark], *, title: str, is_difference: bool = False) -> str:
    """A row for each mark: its label, its interval on a common axis, and its numbers; a difference is drawn around a line at 0."""
    sign = "+" if is_difference else ""
    height = MARGIN + ROW * len(marks)
    svg = _svg(height, title, "; ".join(f"{mark.label} {_told(mark, sign)}" for mark in marks))
    ends = [value for mark in marks for value in (mark.low, mark.mean, mark.high) if value is not None]
    axis = _axis(ends, LABELS + 12, WIDTH - VALUES - 12, has_zero=True)
    for tick in axis.ticks():
        _line(svg, axis(tick), 2, axis(tick), height - MARGIN + 4, "zero" if is_difference and tick == 0 else "grid")
        _text(svg, axis(tick), height - 8, f"{tick:g}", **{"text-anchor": "middle", "class": "faint"})
    for place, mark in enumerate(marks):
        _row(svg, axis, mark, ROW * (place + 0.5) + 2, _told(mark, sign))
    return tostring(svg, encoding="unicode")


def _row(svg: Element, axis: _Axis, mark: Mark, y: float, told: str) -> None:
    kind = "accent" if mark.is_emphasized else "ink"
    _text(svg, LABELS, y + 4, mark.label, **{"text-anchor": "end"})
    if mark.low is not None and mark.high is not None:
        _line(svg, axis(mark.low), y, axis(mark.high), y, kind)
        for end in (mark.low, mark.high):
            _line(svg, axis(end), y - 4, axis(end), y + 4, kind)
    SubElement(svg, "circle", {"cx": f"{axis(mark.mean):g}", "cy": f"{y:g}", "r": "4", "class": kind})
    _text(svg, WIDTH - VALUES + 4, y + 4, told)


def draw_curves(curves: Mapping[str, Points], *, title: str) -> str:
    """Lines over the same steps, the last one dark with its points marked; curves without points are left out."""
    drawn = {name: points for name, points in curves.items() if points}
    ends = "; ".join(f"{name} from {points[0][1]:.3g} to {points[-1][1]:.3g}" for name, points in drawn.items())
    svg = _svg(CURVES_HEIGHT, title, ends)
    steps = [x for points in drawn.values() for x, _ in points]
    across = _axis(steps, LEFT, WIDTH - MARGIN, has_zero=True)
    up = _axis([y for points in drawn.values() for _, y in points], CURVES_HEIGHT - MARGIN, MARGIN, has_zero=True)
    _grid(svg, across, up)
    for (name, points), kind in zip(drawn.items(), ("faint", "accent"), strict=False):
        _curve(svg, across, up, points, kind)
        _legend(svg, name, kind, WIDTH - (130 if kind == "accent" else 280))
    return tostring(svg, encoding="unicode")


def _grid(svg: Element, across: _Axis, up: _Axis) -> None:
    for tick in up.ticks():
        _line(svg, across.first_pixel, up(tick), across.last_pixel, up(tick), "grid")
        _text(svg, across.first_pixel - 6, up(tick) + 4, f"{tick:g}", **{"text-anchor": "end", "class": "faint"})
    for tick in across.ticks():
        _text(svg, across(tick), up.first_pixel + 18, f"{tick:g}", **{"text-anchor": "middle", "class": "faint"})


def _curve(svg: Element, across: _Axis, up: _Axis, points: Points, kind: str) -> None:
    path = " ".join(f"{across(x):g},{up(y):g}" for x, y in points)
    SubElement(svg, "polyline", {"points": path, "class": f"curve {kind}"})
    if kind == "accent":
        for x, y in points:
            SubElement(svg, "circle", {"cx": f"{across(x):g}", "cy": f"{up(y):g}", "r": "3", "class": kind})


def _legend(svg: Element, name: str, kind: str, x: float) -> None:
    SubElement(svg, "polyline", {"points": f"{x},11 {x + 24},11", "class": f"curve {kind}"})
    _text(svg, x + 30, 15, name)


def standing_alone(svg: str) -> str:
    """A drawn picture with colours, letters and size of its own, to be shown by what knows no style of ours."""
    head, _, rest = svg.partition(">")
    _, _, _, height = head.partition('viewBox="')[2].partition('"')[0].split()
    return f'{head} width="{WIDTH}" height="{height}"><style>{ALONE}\n{STYLE}</style>{rest}'
