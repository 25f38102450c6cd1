"""Check that no delivered text is active in a night's page or in its list of alerts."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

NUM_IDS = 3000
# Tags that a page may contain; none of them runs or fetches anything.
TAGS = set(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "p",
        "h1",
        "h2",
        "h3",
        "div",
        "ul",
        "ol",
        "li",
        "strong",
        "span",
        "details",
        "summary",
        "code",
        "nav",
        "a",
        "main",
        "section",
        "footer",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "small",
        "time",
        "b",
        "pre",
        "dl",
        "dt",
        "dd",
        "caption",
        "svg",
        "g",
        "path",
        "rect",
        "line",
        "circle",
        "text",
        "polyline",
        "polygon",
        "clippath",
        "defs",
        "use",
        "figure",
        "figcaption",
        "colgroup",
        "col",
        "em",
        "i",
        "br",
        "tspan",
        "desc",
        "metadata",
    ]
)
FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"-?[0-9][0-9.,e+\-]*")


class _Page(HTMLParser):
    """Collect what a browser would execute or load."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.active.append(f"<{tag}>")
        for name, value in attrs:
            is_link = name in ("href", "src", "xlink:href", "action", "formaction", "srcdoc")
            is_local = (value or "").startswith("#") or value == "alerts.csv"
            if name.startswith("on") or (is_link and not is_local):
                self.active.append(f"<{tag} {name}={value!r}>")


def active_in_page(html: str) -> list[str]:
    """Return the tags, event handlers and links that a page must not contain."""
    page = _Page()
    page.feed(html)
    return page.active


def formulas_in_list(text: str) -> list[str]:
    """Return the cells that a spreadsheet would compute, for any usual delimiter."""
    cells = [
        cell
        for delimiter in (",", ";", "\t")
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for cell in row
    ]
    return [cell for cell in cells if FORMULA.match(cell) and not NUMBER.fullmatch(cell)]


def active_content(lake: Lake, day: date, page: Path) -> list[str]:
    """Return active content of a night's page, and of a page that alerts every id of the night."""
    html = page.read_text(encoding="utf-8")
    wrong = [f"active in {page}: {text}" for text in active_in_page(html)]
    alerted, listed = _page_of_alerts(lake, day)
    wrong += [f"active in a page of alerts of {day}: {text}" for text in active_in_page(alerted)]
    wrong += [
        f"formula in a list of alerts of {day}: {text!r}" for text in formulas_in_list(listed)
    ]
    return wrong


def _page_of_alerts(lake: Lake, day: date) -> tuple[str, str]:
    """Write page and list of a night in which every accepted transaction is an alert."""
    from jobs import report
    from jobs.lake.tables import TRANSACTIONS
    from jobs.report_pages import page, page_data

    rows = lake.read(TRANSACTIONS).where(f"business_date = DATE'{day}'").limit(NUM_IDS).collect()
    alerts = []
    for rank, row in enumerate(rows, 1):
        # Notes are longer and more hostile than ids: use them as names of features.
        reasons = (((row["note"] or "")[:500], None, None), ("transaction_amount", 1.0, 2.0))
        event = page_data.Event(
            row["transaction_id"], f"{day} 10:00:00", row["merchant_id"], row["amount"], 0.999
        )
        alerts.append(
            page_data.Alert(
                rank, row["card_id"], row["transaction_id"], 1, 0.999, row["amount"],
                reasons, (event,),
            )
        )  # fmt: skip
    data = report._read_page(lake, report._read_record(lake, day))
    parts = [
        page.render(replace(data, alerts=alerts[start : start + 100]))
        for start in range(0, len(alerts), 100)
    ]
    return "\n".join(parts), page.alerts_csv(replace(data, alerts=alerts))
