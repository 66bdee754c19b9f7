"""Draws recall against searches a second."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib import pyplot, ticker

Curves = dict[str, list[tuple[float, float]]]

_STYLES = {
    "VSEARCH, 16 connections": ("tab:blue", "o-"),
    "VSEARCH, 1 connection": ("tab:cyan", "o--"),
    "USearch in process, batched": ("tab:gray", "s-"),
    "USearch in process, single": ("silver", "s--"),
}


def draw(path: Path, curves: Curves, title: str) -> None:
    """Write the picture; its kind follows from the name."""
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")
    for name, points in curves.items():
        colour, line = _STYLES[name]
        axes.plot(*zip(*points, strict=True), line, color=colour, label=name, markersize=4)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.set_xlabel("recall@10")
    axes.set_ylabel("searches a second")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
