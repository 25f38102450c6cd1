"""What `monitor` expects of a published night beside those before it; it can only warn.

One row of facts, made of the job's figures; what could not be measured is unknown, and its check
is not applicable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import great_expectations.expectations as gxe

from jobs.quality.drift import NOT_APPLICABLE, SHIFTED
from jobs.quality.expectations import none_of, warning
from jobs.quality.gate import Expectation, GateResult, validate

GATE = "monitor"
# Observed tails further than this from the expected share, by chance and by factor, warn.
TAIL_DEVIATIONS, TAIL_FACTOR = 3.0, 2.0
ALERT_FACTOR = 2.0


def expectations(figures: Mapping[str, Any] | None = None) -> list[Expectation]:
    """Over the one row of `facts`; the figures say why a check is not applicable."""
    why = {name: str(group.get("why", "")) for name, group in (figures or {}).items()}
    return [
        _drift("features", "feature_drift", "No feature has shifted.", why),
        _drift("scores", "score_drift", "Scores have not shifted.", why),
        Expectation(
            "calibration",
            "The tails of the scores hold what they should.",
            gxe.ExpectColumnValuesToBeBetween(column="tails_off", max_value=0),
            "{tails}",
            severity="warn",
            kind="drift",
            unknown="undecided",
            undecided=why.get("calibration", ""),
        ),
        Expectation(
            "alert_volume",
            "About as many alerts as on the nights before.",
            gxe.ExpectColumnValuesToBeBetween(
                column="alert_factor", min_value=1 / ALERT_FACTOR, max_value=ALERT_FACTOR
            ),
            "{num_alerts} alerts, {mean_before:.1f} on average before",
            severity="warn",
            kind="volume",
            unknown="undecided",
            undecided=why.get("alerts", ""),
        ),
        warning(
            none_of(
                "late_rows",
                "late_rows",
                "No row came late for a night that was published.",
                "volume",
            )
        ),
    ]


def _drift(group: str, name: str, sentence: str, why: Mapping[str, str]) -> Expectation:
    return Expectation(
        name,
        sentence,
        gxe.ExpectColumnValuesToBeBetween(column=f"{group}_psi", max_value=SHIFTED),
        f"{{{group}_shifted}} shifted; highest PSI {{{group}_psi:.3f}} ({{{group}_top}})",
        severity="warn",
        kind="drift",
        unknown="undecided",
        undecided=why.get(group) or "The night has no rows.",
    )


def facts(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures in the form that expectations look at."""
    return {
        **_drift_facts("features", figures["features"]),
        **_drift_facts("scores", figures["scores"]),
        **_tail_facts(figures["calibration"]),
        **_alert_facts(figures["alerts"]),
        "late_rows": figures["late"]["num_rows"],
    }


def judge(figures: Mapping[str, Any]) -> GateResult:
    """The figures as checks that can only warn."""
    return validate(GATE, expectations(figures), [facts(figures)])


def _drift_facts(group: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        column: entry["psi"]
        for column, entry in figures["columns"].items()
        if entry["psi"] is not None
    }
    top = max(known, key=lambda column: known[column], default=None)
    shifted = sum(psi > SHIFTED for psi in known.values())
    return {
        f"{group}_psi": known[top] if top else None,
        f"{group}_top": top,
        f"{group}_shifted": f"{shifted} of {len(known)}",
    }


def _tail_facts(figures: Mapping[str, Any]) -> dict[str, Any]:
    if figures["status"] == NOT_APPLICABLE:
        return {"tails_off": None, "tails": ""}
    off = sum(
        _tail_is_off(entry["num_transactions"], figures["num_scores"] * entry["expected_share"])
        for entry in figures["levels"]
    )
    tails = ", ".join(
        f"{100 * entry['observed_share']:.3g} % above {entry['above']}"
        for entry in figures["levels"]
    )
    return {"tails_off": off, "tails": tails}


def _tail_is_off(observed: int, expected: float) -> bool:
    """Whether a count is off by chance's standards and by a factor, either way."""
    far = abs(observed - expected) > TAIL_DEVIATIONS * math.sqrt(expected)
    return far and not expected / TAIL_FACTOR <= observed <= expected * TAIL_FACTOR


def _alert_facts(figures: Mapping[str, Any]) -> dict[str, Any]:
    if figures["status"] == NOT_APPLICABLE:
        return {"alert_factor": None, "num_alerts": None, "mean_before": None}
    num_alerts, mean = figures["num_alerts"], figures["mean_before"]
    # After nights without any, one alert is no news.
    quiet = num_alerts <= 1 and mean < 1
    factor = 1.0 if quiet or num_alerts == mean else num_alerts / mean if mean else math.inf
    return {"alert_factor": factor, "num_alerts": num_alerts, "mean_before": mean}
