"""Draws recall against searches a second."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib import pyplot

Curves = dict[str, list[tuple[float, float]]]

_STYLES = {
    "16 connections": ("tab:blue", "o-"),
    "1 connection": ("tab:cyan", "o--"),
    "USearch in process, batched": ("tab:gray", "s-"),
    "USearch in process, single": ("silver", "s--"),
}


def draw(path: Path, curves: Curves, title: str) -> None:
    """Write the picture; its kind follows from the name."""
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(figsize=(7.5, 4.5), layout="constrained")
    for name, points in curves.items():
        colour, line = _STYLES[name]
        label = name if name.startswith("USearch") else f"VSEARCH, {name}"
        axes.plot(*zip(*points, strict=True), line, color=colour, label=label, markersize=4)
    axes.set_yscale("log")
    axes.set_xlabel("recall@10")
    axes.set_ylabel("searches a second")
    axes.set_title(title)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
