"""Inline SVG charts by matplotlib: no file, no script, no address of any host in them.

The same figures give the same bytes: ids are salted with the chart's name, the date of drawing
is left out, and ids that nothing refers to are dropped, so several charts share one page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from jobs.report_pages.alert_outcomes import Detected
from jobs.report_pages.page_data import BINS_PER_DECADE, Tails, Volume

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
    """Transactions accepted and refused, and alerts, per night."""

    def draw(axes: Sequence[Axes]) -> None:
        places = range(len(volumes))
        accepted = [volume.accepted for volume in volumes]
        colours = [ACCENT if volume.day == day else ACCENT_SOFT for volume in volumes]
        axes[0].bar(places, accepted, color=colours, width=0.75)
        refused = [volume.quarantined for volume in volumes]
        axes[0].bar(places, refused, bottom=accepted, color=WARM, width=0.75, label="refused")
        axes[0].set_title("Transactions per night", loc="left", fontsize=10, fontweight="bold")
        if any(refused):
            axes[0].legend(loc="upper left", bbox_to_anchor=(0.72, 1.2), fontsize=9)
        axes[1].bar(places, [volume.alerts for volume in volumes], color=colours, width=0.75)
        axes[1].set_title("Alerts per night", loc="left", fontsize=10, fontweight="bold")
        for ax in axes:
            _dates(ax, [volume.day for volume in volumes])
            _whole(ax)

    return _chart("volumes", "Transactions and alerts per night", draw, panels=2, height=2.5)


def score_tails(tails: Tails, threshold: float | None) -> Markup:
    """Share of transactions that are at least this rare: tonight, before, and as calibrated."""

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        rarity = [10 ** (place / BINS_PER_DECADE) for place in range(len(tails.tonight))]
        lines = {
            "nights before": (INK, _seen(rarity, tails.before)),
            "this night": (ACCENT, _seen(rarity, tails.tonight)),
        }
        last = max(x for _, points in lines.values() for x, _ in points)
        # A little beyond the rarest score, and at least to 1 in 1,000.
        end = max(last, 1e3) * 2
        ax.plot([1, end], [1, 1 / end], "--", color=QUIET, label="as calibrated")
        for name, (colour, points) in lines.items():
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, linewidth=2, label=name)
        if threshold is not None and 0 <= threshold < 1:
            ax.axvline(1 / (1 - threshold), color=WARM, linewidth=1.2, label="alert threshold")
        ax.set_xscale("log")
        ax.set_yscale("log")
        _powers(ax)
        ax.set_xlabel("at least as rare as 1 in …")
        ax.set_ylabel("share of transactions")
        ax.legend(loc="lower left", fontsize=9)

    return _chart("scores", "Scores of the night beside the nights before", draw, height=3.4)


def precision_per_night(nights: Sequence[Detected]) -> Markup:
    """Share of alerts that turned out to be fraud, per mature night."""

    def draw(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        shares = [100 * night.precision for night in nights]
        ax.bar(range(len(nights)), shares, color=ACCENT, width=0.6 if len(nights) > 3 else 0.2)
        mean = 100 * sum(n.num_frauds for n in nights) / sum(n.num_alerts for n in nights)
        ax.axhline(mean, color=INK, linewidth=1, linestyle="--", label=f"together {mean:.0f} %")
        ax.set_ylim(0, max([*shares, 1]) * 1.25)
        ax.set_ylabel("% of alerts")
        ax.legend(loc="upper right", fontsize=9)
        _dates(ax, [night.day for night in nights])

    return _chart("precision", "Alerts that turned out to be fraud", draw, height=2.5)


def _seen(rarity: Sequence[float], counts: Sequence[int]) -> list[tuple[float, float]]:
    """Per rarity the share of scores at least as rare, as far as there are any."""
    total = sum(counts)
    shares = ((x, sum(counts[place:])) for place, x in enumerate(rarity))
    return [(x, num / total) for x, num in shares if num]


def _dates(ax: Axes, days: Sequence[date]) -> None:
    step = max(1, -(-len(days) // 6))
    shown = list(range(len(days) - 1, -1, -step))
    ax.set_xticks(shown, [f"{days[place].day} {days[place]:%b}" for place in shown])
    ax.grid(False, axis="x")


def _whole(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ax.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _powers(ax: Axes) -> None:
    """Ticks as people write them: 1 in 10,000 and 0.01 %."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain_percent(value)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())


def _plain_percent(share: float) -> str:
    text = f"{100 * share:.10f}"
    return text.rstrip("0").rstrip(".") + " %"


def _chart(name: str, title: str, draw: Any, *, panels: int = 1, height: float) -> Markup:
    """Draw on fresh axes and hand back the SVG element."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(9.0, height), layout="constrained")
        axes = figure.subplots(1, panels, squeeze=False)[0]
        draw(list(axes))
        return _inline(figure, name, title)


def _inline(figure: Figure, name: str, title: str) -> Markup:
    """The figure as an element of an HTML page."""
    buffer = io.BytesIO()
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=unsaid)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    # An HTML parser knows the namespaces of SVG by itself.
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    # Its style sheet would reach the whole page, and its fonts are the page's.
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
