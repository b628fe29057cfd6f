"""A bar chart as SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, LEFT, RIGHT, ROW, TOP = 860, 250, 90, 24, 56
OURS, OTHERS = "#1f6feb", "#9aa4b2"


def bars(title: str, rows: Sequence[tuple[str, float, bool]]) -> tuple[str, int]:
    """One panel of bars on a logarithmic scale: (label, value, ours). Gives the SVG and its height."""
    rows = sorted(rows, key=lambda row: row[1])
    if not rows:
        return "", 0
    low = floor(log10(max(1e-3, min(value for _, value, _ in rows) * 0.8)))
    high = max(low + 1, ceil(log10(rows[-1][1])))
    span, bottom = WIDTH - LEFT - RIGHT, TOP + ROW * len(rows)

    def place(value: float) -> float:
        return LEFT + (log10(value) - low) / (high - low) * span

    parts = [f'<text x="16" y="24" font-size="15" font-weight="600">{escape(title)}</text>']
    for power in range(low, high + 1):
        at = place(10.0**power)
        parts.append(f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{bottom}" stroke="#e3e7ee"/>')
        parts.append(f'<text x="{at:.1f}" y="{TOP - 12}" text-anchor="middle" fill="#6b7480">{10.0**power:,g}</text>')
    for index, (label, value, ours) in enumerate(rows):
        top, end = TOP + index * ROW, place(value)
        color = OURS if ours else OTHERS
        parts.append(f'<text x="{LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top + 3}" width="{end - LEFT:.1f}" height="{ROW - 7}" fill="{color}"/>')
        parts.append(f'<text x="{end + 6:.1f}" y="{top + 15}">{value:,.4g}</text>')
    return "\n".join(parts), bottom + 16


def svg(panels: Sequence[tuple[str, Sequence[tuple[str, float, bool]]]]) -> str:
    """The panels, one below the other."""
    groups, height = [], 0
    for title, rows in panels:
        body, used = bars(title, rows)
        if used:
            groups.append(f'<g transform="translate(0 {height})">\n{body}\n</g>')
            height += used
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
    return "\n".join([head + ' font-size="12">', '<rect width="100%" height="100%" fill="#fff"/>', *groups, "</svg>\n"])
