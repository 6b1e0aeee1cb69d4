"""Small pictures as SVG text, without a plotting library: what a person sees of a model in metadata and reports."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

WIDTH = 640
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"  # Okabe and Ito (2008): safe for colour-blind readers
INK, MUTED, GRID, CARD = "#1f2933", "#5f6b7a", "#e2e7ed", "#fcfdfe"
LINES = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#5f6b7a")
HEAT = ("#dbe9f6", "#b5d1e9", "#85b6da", "#549ac8", "#2c7bb5", "#0d5796")
CELLS = 32
VERDICTS = {"RETRAIN": VERMILION, "FIX_UPSTREAM": VERMILION, "WAIT": MUTED, "NEED_LABELS": MUTED}


class Point(NamedTuple):
    """A figure with its interval; whether its version is or was champion; a figure not settled is drawn hollow."""

    label: str
    value: float
    low: float
    high: float
    champion: bool = False
    settled: bool = True


class Moment(NamedTuple):
    """One partition: the figure (measured, or only expected), the naive guess, and what was decided and done there."""

    label: str
    value: float | None
    baseline: float | None = None
    expected: bool = False
    verdict: str | None = None
    trained: str | None = None


def markdown(svg: str, alt: str) -> str:
    """The picture as a Markdown image that carries its own bytes, as Dagster's UI shows it."""
    caption = "".join(character for character in " ".join(alt.split()) if character not in "[]\\")
    return f"![{caption}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    thresholds: Sequence[float | None] | None = None,
    title: str = "",
) -> str:
    """Horizontal bars with their figures; one that exceeds its threshold (a tick on its row) is vermilion."""
    limits = list(thresholds) if thresholds is not None else [None] * len(values)
    known = [abs(v) for v in (*values, *limits) if v is not None and math.isfinite(v)]
    left, right, row = 190, WIDTH - 76, 24
    scale = (right - left) / (max(known, default=0) or 1)
    parts = []
    for index, (label, value, limit) in enumerate(zip(labels, values, limits, strict=True)):
        top = 48 + index * row
        over = limit is not None and value > limit
        length = abs(value) * scale if math.isfinite(value) else 0
        parts += [
            _text(left - 8, top + 12, _short(label, 24), anchor="end"),
            _rect(left, top, right - left, 16, "#eef2f6"),
            _rect(left, top, max(length, 1), 16, VERMILION if over else BLUE),
            _text(right + 8, top + 12, figure(value), colour=VERMILION if over else INK, weight=600 if over else 400),
        ]
        if limit is not None and math.isfinite(limit):
            parts.append(_line(left + limit * scale, top - 3, left + limit * scale, top + 19, INK, 2))
    return _card(48 + len(values) * row + 12, title, parts)


def line(points: Sequence[Point], title: str = "") -> str:
    """A figure over versions, oldest first, with intervals; champions are green diamonds."""
    shown = [point for point in points if math.isfinite(point.value)]
    bounds = [b for point in shown for b in (point.value, point.low, point.high) if math.isfinite(b)]
    ticks = _ticks(min(bounds, default=0), max(bounds, default=1))
    left, right, top, bottom = 72, WIDTH - 32, 52, 216
    step = (right - left) / len(shown) if shown else 0
    xs = [left + step * (index + 0.5) for index in range(len(shown))]
    parts = _y_axis(ticks, left, right, top, bottom)
    y = _scale(ticks[0], ticks[-1], bottom, top)
    widest = max((len(_short(point.label, 10)) for point in shown), default=0)
    every = math.ceil(len(shown) * (7 * widest + 8) / (right - left)) or 1
    path = " ".join(f"{x:.1f},{y(point.value):.1f}" for x, point in zip(xs, shown, strict=True))
    parts.append(f'<polyline points="{path}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>')
    for index, (x, point) in enumerate(zip(xs, shown, strict=True)):
        if math.isfinite(point.low) and math.isfinite(point.high):
            parts.append(_line(x, y(point.low), x, y(point.high), BLUE, 1.5, 'stroke-opacity=".45"'))
        parts.append(_marker(x, y(point.value), champion=point.champion, settled=point.settled))
        if (len(shown) - 1 - index) % every == 0:
            parts.append(_text(x, bottom + 18, _short(point.label, 10), anchor="middle", colour=MUTED))
    if any(point.champion for point in shown):
        parts += [_marker(right - 74, 26, champion=True), _text(right - 64, 30, "champion", colour=MUTED)]
    return _card(252, title, parts)


def interval(label: str, estimate: tuple[float, float, float], title: str = "") -> str:
    """A figure with its interval beside zero: whether it is surely better, surely worse, or may be chance."""
    value, low, high = estimate
    ticks = _ticks(min(low, value, 0), max(high, value, 0))
    left, right, top, bottom = 150, WIDTH - 48, 52, 108
    x = _scale(ticks[0], ticks[-1], left, right)
    colour = GREEN if low > 0 else VERMILION if high < 0 else MUTED
    middle = (top + bottom) / 2
    parts = [_line(x(tick), top, x(tick), bottom, GRID, 1) for tick in ticks]
    parts += [_text(x(tick), bottom + 18, figure(tick), anchor="middle", colour=MUTED) for tick in ticks]
    parts += [
        _line(x(0), top - 6, x(0), bottom, INK, 2),
        _text(left - 12, middle + 4, _short(label, 20), anchor="end"),
        _line(x(low), middle, x(high), middle, colour, 6, 'stroke-opacity=".45" stroke-linecap="round"'),
        _dot(x(value), middle, 6, colour),
        _text(x(value), middle - 12, figure(value), anchor="middle", colour=colour, weight=600),
    ]
    return _card(bottom + 36, title, parts)


def timeline(moments: Sequence[Moment], title: str = "") -> str:
    """A figure over partitions, oldest first: trainings as upright lines, the verdict on each partition below it.

    A figure that is only expected is a hollow dot; the naive guess is dashed; green trainings made a champion.
    """
    values, naive = ([_finite(each[field]) for each in moments] for field in (1, 2))
    known = [value for value in (*values, *naive) if value is not None]
    ticks = _ticks(min(known, default=0), max(known, default=1))
    left, right, top, bottom = 72, WIDTH - 32, 52, 216
    step = (right - left) / (len(moments) or 1)
    x, y = (lambda index: left + step * (index + 0.5)), _scale(ticks[0], ticks[-1], bottom, top)
    parts = _y_axis(ticks, left, right, top, bottom)
    for index, each in enumerate(moments):
        if each.trained is not None:
            colour = GREEN if each.trained == "champion" else MUTED
            parts.append(_line(x(index), top, x(index), bottom, colour, 2, 'stroke-dasharray="2 3"'))
    parts += _path([(x(index), y(value)) for index, value in enumerate(naive) if value is not None], MUTED, dashed=True)
    parts += _path([(x(index), y(value)) for index, value in enumerate(values) if value is not None], BLUE)
    every = math.ceil(len(moments) / 7) or 1
    for index, (each, value) in enumerate(zip(moments, values, strict=True)):
        if value is not None:
            parts.append(_dot(x(index), y(value), 3.5, CARD if each.expected else BLUE))
        if each.verdict:
            parts.append(_text(x(index), bottom + 18, each.verdict[0], "middle", VERDICTS.get(each.verdict, INK), 600))
        if index % every == 0:
            parts.append(_text(x(index), bottom + 34, _short(each.label, 10), anchor="middle", colour=MUTED))
    legend = "R retrain, W wait, F fix upstream, N need labels; dotted: trained (green: champion)"
    return _card(286, title, [*parts, _text(left, bottom + 56, legend, colour=MUTED)])


def courses(
    labels: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    marked: Mapping[str, Sequence[bool]],
    upright: Sequence[int] = (),
    title: str = "",
    crossed: Mapping[str, Sequence[bool]] = MappingProxyType({}),
) -> str:
    """Several figures over partitions, oldest first, with dots and crosses on them; dotted lines at `upright`."""
    drawn = {name: [_finite(value) for value in line] for name, line in lines.items()}
    known = [value for line in drawn.values() for value in line if value is not None]
    ticks = _ticks(min(known, default=0), max(known, default=1))
    left, right, top, bottom = 72, WIDTH - 32, 52, 252
    step = (right - left) / (len(labels) or 1)
    x, y = (lambda index: left + step * (index + 0.5)), _scale(ticks[0], ticks[-1], bottom, top)
    none = [False] * len(labels)
    parts = _y_axis(ticks, left, right, top, bottom)
    parts += [_line(x(place), top, x(place), bottom, INK, 1.5, 'stroke-dasharray="2 3"') for place in upright]
    for place, (name, line) in enumerate(drawn.items()):
        colour, row, column = LINES[place % len(LINES)], place // 4, place % 4
        parts += _path([(x(i), y(value)) for i, value in enumerate(line) if value is not None], colour)
        at = [(i, x(i), y(value)) for i, value in enumerate(line) if value is not None]
        parts += [
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colour}" stroke="{CARD}"/>'
            for i, across, down in at
            if marked.get(name, none)[i]
        ]
        parts += [_cross(across, down, colour) for i, across, down in at if crossed.get(name, none)[i]]
        under, over = left + 140 * column, bottom + 46 + 18 * row
        parts += [_line(under, over, under + 18, over, colour, 3), _text(under + 24, over + 4, _short(name, 16))]
    every = math.ceil(len(labels) / 6) or 1
    parts += [
        _text(x(index), bottom + 18, _short(label, 10), anchor="middle", colour=MUTED)
        for index, label in enumerate(labels)
        if index % every == 0
    ]
    return _card(bottom + 46 + 18 * math.ceil(len(lines) / 4), title, parts)


def _cross(across: float, down: float, colour: str) -> str:
    arm = 5
    path = f"M{across - arm:.1f} {down - arm:.1f}l{2 * arm} {2 * arm}m0 {-2 * arm}l{-2 * arm} {2 * arm}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.2"/>'


def steps(points: Sequence[tuple[float, float]], title: str = "") -> str:
    """A share that grows: from each point's place on it is that point's share."""
    left, right, top, bottom = 72, WIDTH - 32, 52, 216
    ticks = _ticks(0, max((place for place, _ in points), default=1))
    x, y = _scale(0, ticks[-1], left, right), _scale(0, 1, bottom, top)
    parts = _y_axis([0, 0.25, 0.5, 0.75, 1], left, right, top, bottom)
    parts += [_text(x(tick), bottom + 18, figure(tick), anchor="middle", colour=MUTED) for tick in ticks]
    path, share = f"M{x(0):.1f} {y(0):.1f}", 0.0
    for place, share in points:
        path += f"H{x(place):.1f}V{y(share):.1f}"
    parts.append(f'<path d="{path}H{right}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>')
    return _card(252, title, [*parts, _text(right, y(share) - 6, f"{share:.0%}", anchor="end", weight=600)])


def density(actual: np.ndarray, predicted: np.ndarray, title: str = "") -> str:
    """Predicted against actual, darker where there are more rows (log scale); a perfect model is on the diagonal."""
    actual, predicted = np.asarray(actual, float), np.asarray(predicted, float)
    low, high = _central_range(actual, predicted)
    counts, _, _ = np.histogram2d(
        np.clip(actual, low, high), np.clip(predicted, low, high), CELLS, [[low, high], [low, high]]
    )
    left, top, cell = 96, 48, 10
    right, bottom = left + CELLS * cell, top + CELLS * cell
    ticks = [t for t in _ticks(low, high) if low <= t <= high]
    parts = [_rect(left, top, CELLS * cell, CELLS * cell, "#f3f6f9"), *_cells(counts, left, bottom, cell)]
    along = _scale(low, high, left, right)
    up = _scale(low, high, bottom, top)
    for tick in ticks:
        parts += [
            _text(along(tick), bottom + 18, figure(tick), anchor="middle", colour=MUTED),
            _text(left - 8, up(tick) + 4, figure(tick), anchor="end", colour=MUTED),
        ]
    parts += [
        _line(left, bottom, right, top, VERMILION, 1.5, 'stroke-dasharray="5 4"'),
        _text((left + right) / 2, bottom + 38, "actual", anchor="middle", colour=MUTED),
        _text(28, (top + bottom) / 2, "predicted", anchor="middle", colour=MUTED, turn=True),
        *_heat_legend(right + 28, top, counts),
    ]
    return _card(bottom + 52, title, parts)


def calibration(actual: np.ndarray, probability: np.ndarray, title: str = "", groups: int = 10) -> str:
    """How often the positive class came, for rows of like predicted probability; an honest model is on the diagonal."""
    actual, probability = np.asarray(actual, float), np.asarray(probability, float)
    group = np.minimum((np.clip(probability, 0, 1) * groups).astype(int), groups - 1)
    rows = np.bincount(group, minlength=groups)
    filled = rows > 0
    said = np.bincount(group, probability, groups)[filled] / rows[filled]
    came = np.bincount(group, actual, groups)[filled] / rows[filled]
    left, top, size = 96, 48, 240
    right, bottom = left + size, top + size
    x, y = _scale(0, 1, left, right), _scale(0, 1, bottom, top)
    parts = _y_axis([0, 0.25, 0.5, 0.75, 1], left, right, top, bottom)
    parts += [_text(x(t), bottom + 18, figure(t), anchor="middle", colour=MUTED) for t in (0, 0.25, 0.5, 0.75, 1)]
    parts.append(_line(left, bottom, right, top, VERMILION, 1.5, 'stroke-dasharray="5 4"'))
    path = " ".join(f"{x(s):.1f},{y(c):.1f}" for s, c in zip(said, came, strict=True))
    parts.append(f'<polyline points="{path}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>')
    for s, c, n in zip(said, came, rows[filled], strict=True):
        parts.append(_dot(x(s), y(c), 3 + 7 * math.sqrt(n / rows.max())))
    parts += [
        _text((left + right) / 2, bottom + 38, "predicted probability", anchor="middle", colour=MUTED),
        _text(28, (top + bottom) / 2, "share that came true", anchor="middle", colour=MUTED, turn=True),
        _text(right + 28, top + 12, "dot size: number of rows", colour=MUTED),
    ]
    return _card(bottom + 52, title, parts)


def confusion(counts: np.ndarray, classes: Sequence[str], title: str = "") -> str:
    """Predicted class against actual class: the share of each actual class (row) that was called each class."""
    counts = np.asarray(counts, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    left, top, right = 150, 78, WIDTH - 32
    cell = max(min((right - left) // max(len(classes), 1), 72), 14)
    bottom = top + cell * len(classes)
    parts = [
        _text(left + cell * len(classes) / 2, top - 26, "predicted", anchor="middle", colour=MUTED),
        _text(24, (top + bottom) / 2, "actual", anchor="middle", colour=MUTED, turn=True),
    ]
    for row, name in enumerate(classes):
        middle = top + cell * (row + 0.5) + 4
        parts.append(_text(left - 8, middle, _short(name, 16), anchor="end"))
        parts.append(_text(left + cell * (row + 0.5), top - 8, _short(name, max(cell // 8, 2)), anchor="middle"))
        for column, share in enumerate(shares[row]):
            parts.append(_rect(left + cell * column, top + cell * row, cell - 1, cell - 1, _heat(share)))
            if cell >= 36:
                ink = "#ffffff" if share > 2 / 3 else INK
                parts.append(_text(left + cell * (column + 0.5), middle, f"{share:.0%}", "middle", ink))
    return _card(bottom + 16, title, parts)


def figure(value: float) -> str:
    """A number as a person reads it: four significant digits, thousands separated, a dash for none."""
    if not math.isfinite(value):
        return "\u2013"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _card(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
        f' font-family="Inter, system-ui, sans-serif" font-size="12" role="img"><title>{_safe(title)}</title>'
        f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" fill="{CARD}" stroke="#cfd7e0"/>'
        f"{_text(20, 30, _short(title, 80), weight=600, size=14)}{''.join(parts)}</svg>"
    )


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    colour: str = INK,
    weight: int = 400,
    size: int = 12,
    turn: bool = False,
) -> str:
    turned = f' transform="rotate(-90 {x:.0f} {y:.0f})"' if turn else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}"'
        f' font-size="{size}"{turned}>{_safe(text)}</text>'
    )


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{fill}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, extra: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" {extra}/>'


def _dot(x: float, y: float, radius: float, fill: str = BLUE) -> str:
    edge = CARD if fill == BLUE else BLUE
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" stroke="{edge}"/>'


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _path(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> list[str]:
    """The points joined, where there are two or more."""
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    drawn = f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
    return [drawn] if len(points) > 1 else []


def _marker(x: float, y: float, *, champion: bool, settled: bool = True) -> str:
    if not settled:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{CARD}" stroke="{BLUE}" stroke-width="1.5"/>'
    if not champion:
        return _dot(x, y, 4)
    corners = f"{x:.1f},{y - 7:.1f} {x + 7:.1f},{y:.1f} {x:.1f},{y + 7:.1f} {x - 7:.1f},{y:.1f}"
    return f'<polygon points="{corners}" fill="{GREEN}" stroke="{CARD}"/>'


def _y_axis(ticks: Sequence[float], left: float, right: float, top: float, bottom: float) -> list[str]:
    y = _scale(ticks[0], ticks[-1], bottom, top)
    return [
        part
        for tick in ticks
        for part in (
            _line(left, y(tick), right, y(tick), GRID, 1),
            _text(left - 8, y(tick) + 4, figure(tick), anchor="end", colour=MUTED),
        )
    ]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    factor = (end - start) / ((high - low) or 1)
    return lambda value: start + (value - low) * factor


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that enclose the range."""
    if high <= low:
        pad = abs(low) * 0.1 or 1
        low, high = low - pad, high + pad
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(step * index, 12) for index in range(first, last + 1)]


def _central_range(actual: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """The range of all but the most extreme thousandth on each side, so that one outlier does not hide the rest."""
    if not len(actual):
        return 0.0, 1.0
    ends = np.concatenate([np.quantile(side, [0.001, 0.999]) for side in (actual, predicted)])
    low, high = float(ends.min()), float(ends.max())
    return (low, high) if high > low else (low - 1, high + 1)


def _heat(share: float) -> str:
    return "#f3f6f9" if share <= 0 else HEAT[min(int(share * len(HEAT)), len(HEAT) - 1)]


def _cells(counts: np.ndarray, left: int, bottom: int, cell: int) -> list[str]:
    """One path a colour: the picture stays small however many rows it stands for."""
    level = np.zeros(counts.shape, int)
    if counts.max() > 0:
        share = np.log1p(counts) / np.log1p(counts.max())
        level = np.where(counts > 0, np.clip((share * len(HEAT)).astype(int), 0, len(HEAT) - 1) + 1, 0)
    parts = []
    for shade, colour in enumerate(HEAT, start=1):
        found = zip(*np.nonzero(level == shade), strict=True)
        path = "".join(f"M{left + i * cell} {bottom - (j + 1) * cell}h{cell}v{cell}h-{cell}z" for i, j in found)
        if path:
            parts.append(f'<path fill="{colour}" d="{path}"/>')
    return parts


def _heat_legend(x: float, top: float, counts: np.ndarray) -> list[str]:
    parts = [_text(x, top + 12, "rows in a cell", colour=MUTED)]
    for index, colour in enumerate(reversed(HEAT)):
        parts.append(_rect(x, top + 24 + index * 16, 16, 16, colour))
    parts.append(_text(x + 24, top + 36, f"up to {counts.max():,.0f}", colour=MUTED))
    parts.append(_text(x + 24, top + 24 + len(HEAT) * 16 - 4, "1", colour=MUTED))
    return [*parts, _text(x, top + 160, f"{counts.sum():,.0f} rows", colour=MUTED)]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 1, 1)] + "…"


def _safe(text: str) -> str:
    """The text as XML allows it: escaped, and without characters that XML cannot hold at all."""
    return escape("".join(character for character in text if character.isprintable()))
