"""Regret curves as a picture: how far each search was from the best known, after so many trials."""

from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 720, 400, 56
COLOURS = ("#1668b8", "#c4481d", "#6f6f6f", "#2c8a4b")


def write_curves(path: Path, title: str, curves: Mapping[str, Sequence[float]]) -> None:
    """Write an SVG with one line for each search.

    Parameters
    ----------
    path : Path
        Of the picture; replaces an older one.
    title : str
        Above it.
    curves : Mapping[str, sequence of float]
        By the search's name: latency over the best known after 1, 2, ... trials, at least 1.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    longest = max(map(len, curves.values()))
    later = (min(value, 4.0) for curve in curves.values() for value in curve[7:])
    highest = max([1.1, *later])

    def across(trial: int) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * log2(trial) / max(1.0, log2(longest))

    def down(value: float) -> float:
        share = (min(value, highest) - 1) / (highest - 1)
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="24" font-size="14">{title}</text>',
    ]
    trial = 1
    while trial <= longest:
        lines.append(
            f'<text x="{across(trial):.1f}" y="{HEIGHT - MARGIN + 18}" '
            f'text-anchor="middle">{trial}</text>'
        )
        trial *= 2
    for step in range(5):
        value = 1 + (highest - 1) * step / 4
        lines.append(
            f'<path d="M{MARGIN} {down(value):.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>'
            f'<text x="{MARGIN - 6}" y="{down(value) + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    for place, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(
            f"{across(number):.1f},{down(value):.1f}" for number, value in enumerate(curve, start=1)
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{WIDTH - MARGIN - 90}" y="{MARGIN + 16 * place}" fill="{colour}">'
            f"{name}</text>"
        )
    lines.append(
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">trials</text>'
        f'<text x="14" y="{MARGIN - 12}">latency / best known</text></svg>'
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
