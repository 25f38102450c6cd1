"""Draw the charts of the page as inline SVG with matplotlib.

The SVG needs no other file, contains no script and names no host. The same data gives the same
bytes: ids are salted with the name of the chart and the creation date is left out. Ids without a
reference are removed and the others get a prefix, so several charts can share one page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from jobs.report_pages.alert_outcomes import AlertOutcome
from jobs.report_pages.page_data import BINS_PER_DECADE, ScoreDistribution, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, LINE = "#334155", "#94a3b8", "#e2e8f0"
ACCENT, ACCENT_SOFT, WARM = "#0f766e", "#99d5cc", "#b45309"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


def nightly_volumes(volumes: Sequence[Volume], day: date) -> Markup:
    """Draw accepted and quarantined transactions, and alerts, per night."""

    def draw(axes: Sequence[Axes]) -> None:
        positions = range(len(volumes))
        accepted = [volume.accepted for volume in volumes]
        colours = [ACCENT if volume.day == day else ACCENT_SOFT for volume in volumes]
        axes[0].bar(positions, accepted, color=colours, width=0.75)
        quarantined = [volume.quarantined for volume in volumes]
        axes[0].bar(
            positions, quarantined, bottom=accepted, color=WARM, width=0.75, label="quarantined"
        )
        axes[0].set_title("Transactions per night", loc="left", fontsize=10, fontweight="bold")
        if any(quarantined):
            axes[0].legend(loc="upper left", bbox_to_anchor=(0.72, 1.2), fontsize=9)
        axes[1].bar(positions, [volume.alerts for volume in volumes], color=colours, width=0.75)
        axes[1].set_title("Alerts per night", loc="left", fontsize=10, fontweight="bold")
        for ax in axes:
            _label_dates(ax, [volume.day for volume in volumes])
            _use_whole_numbers(ax)

    return _chart("volumes", "Transactions and alerts per night", draw, panels=2, height=2.5)


def score_distribution(scores: ScoreDistribution, threshold: float | None) -> Markup:
    """Draw the share of transactions at or above each rarity, with the calibrated share.

    One line shows the night, one the nights before it.
    """

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        rarity = [10 ** (bin_ / BINS_PER_DECADE) for bin_ in range(len(scores.tonight))]
        lines = {
            "nights before": (INK, _cumulative_shares(rarity, scores.before)),
            "this night": (ACCENT, _cumulative_shares(rarity, scores.tonight)),
        }
        last = max(x for _, points in lines.values() for x, _ in points)
        # The axis ends a little beyond the rarest score, and not before 1 in 1,000.
        end = max(last, 1e3) * 2
        ax.plot([1, end], [1, 1 / end], "--", color=QUIET, label="as calibrated")
        for name, (colour, points) in lines.items():
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, linewidth=2, label=name)
        if threshold is not None and 0 <= threshold < 1:
            ax.axvline(1 / (1 - threshold), color=WARM, linewidth=1.2, label="alert threshold")
        ax.set_xscale("log")
        ax.set_yscale("log")
        _label_powers(ax)
        ax.set_xlabel("at least as rare as 1 in …")
        ax.set_ylabel("share of transactions")
        ax.legend(loc="lower left", fontsize=9)

    return _chart("scores", "Score distribution against calibration", draw, height=3.4)


def precision_per_night(nights: Sequence[AlertOutcome]) -> Markup:
    """Draw the share of alerts that turned out to be fraud, per mature night."""

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        shares = [100 * night.precision for night in nights]
        ax.bar(range(len(nights)), shares, color=ACCENT, width=0.6 if len(nights) > 3 else 0.2)
        mean = 100 * sum(n.num_frauds for n in nights) / sum(n.num_alerts for n in nights)
        ax.axhline(mean, color=INK, linewidth=1, linestyle="--", label=f"all nights {mean:.0f} %")
        ax.set_ylim(0, max([*shares, 1]) * 1.25)
        ax.set_ylabel("% of alerts")
        ax.legend(loc="upper right", fontsize=9)
        _label_dates(ax, [night.day for night in nights])

    return _chart("precision", "Alerts that turned out to be fraud", draw, height=2.5)


def _cumulative_shares(rarity: Sequence[float], counts: Sequence[int]) -> list[tuple[float, float]]:
    """Return pairs of a rarity and the share of scores at least as rare, without zero shares."""
    total = sum(counts)
    shares = ((x, sum(counts[index:])) for index, x in enumerate(rarity))
    return [(x, num / total) for x, num in shares if num]


def _label_dates(ax: Axes, days: Sequence[date]) -> None:
    step = max(1, -(-len(days) // 6))
    labelled = list(range(len(days) - 1, -1, -step))
    ax.set_xticks(labelled, [f"{days[index].day} {days[index]:%b}" for index in labelled])
    ax.grid(False, axis="x")


def _use_whole_numbers(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _label_powers(ax: Axes) -> None:
    """Write ticks as plain numbers, such as 10,000 and 0.01 %, without exponents."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain_percent(value)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())


def _plain_percent(share: float) -> str:
    text = f"{100 * share:.10f}"
    return text.rstrip("0").rstrip(".") + " %"


def _chart(name: str, title: str, draw: Any, *, panels: int = 1, height: float) -> Markup:
    """Draw on new axes and return the SVG element."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(9.0, height), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        draw(list(axes))
        return _inline(figure, name, title)


def _inline(figure: Figure, name: str, title: str) -> Markup:
    """Return the figure as an element of an HTML page."""
    buffer = io.BytesIO()
    left_out = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=left_out)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    # HTML parsers know the SVG namespaces.
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    # A style sheet inside the SVG would apply to the whole page, and the page sets the fonts.
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    used = set(re.findall(r"#([\w.-]+)[\")]", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{name}-", svg)
    svg = re.sub(
        r'<svg[^>]*?viewBox="([^"]+)"[^>]*>',
        lambda m: (
            f'<svg viewBox="{m[1]}" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>"
        ),
        svg,
        count=1,
    )
    return Markup(svg)
