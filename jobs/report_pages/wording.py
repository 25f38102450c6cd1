"""Write feature values as sentences for a risk analyst: one pure function per kind of feature.

>>> sentence("transaction_amount", 412.0, 38.0)
'paid 412.00, expected about 38.00'
>>> sentence("transaction_hour_of_day", 3.2, 14.0)
'at 03:12, expected around 14:00'
>>> sentence("transaction_no_longer_in_the_catalogue", None, None, "travel", "groceries")
'transaction_no_longer_in_the_catalogue was travel, usually groceries'
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Feature, Function, Kind
from feature_defs.windows import Window, in_whole_units
from fraud_models.scoring.reasons import CARD_HISTORY

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
# Beyond this rarity the calibration is extrapolated, so an exact number would be misleading.
RAREST = 1e9


def money(value: Decimal | float) -> str:
    """Return an amount with two decimals, or with three if the third is not 0.

    >>> money(Decimal("1412.500")), money(Decimal("0.125"))
    ('1,412.50', '0.125')
    """
    text = f"{value:,.3f}"
    return text[:-1] if text.endswith("0") else text


def number(value: float) -> str:
    """Return a count or a mean of counts: whole numbers without decimals, others with one.

    >>> number(1200.0), number(3.14)
    ('1,200', '3.1')
    """
    return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:,.1f}"


def percent(share: float) -> str:
    """Return a share in percent; small shares keep two significant digits.

    >>> percent(0.62), percent(0.0), percent(0.0042)
    ('62 %', '0 %', '0.42 %')
    """
    hundredfold = 100 * share
    if hundredfold == 0 or abs(hundredfold) >= 10:
        return f"{hundredfold:.0f} %"
    return f"{hundredfold:.2g} %"


def duration(seconds: float) -> str:
    """Return a time span in seconds, minutes, hours or days.

    >>> duration(42), duration(240), duration(32400), duration(200000)
    ('42 s', '4 min', '9 h', '2.3 days')
    """
    if seconds < MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < HOUR_S:
        return f"{seconds / MINUTE_S:.0f} min"
    if seconds < DAY_S:
        return f"{seconds / HOUR_S:.1f}".removesuffix(".0") + " h"
    count = f"{seconds / DAY_S:.1f}".removesuffix(".0")
    return f"{count} day" if count == "1" else f"{count} days"


def clock(hours: float) -> str:
    """Return hours since midnight as a time of day.

    >>> clock(3.2), clock(23.999)
    ('03:12', '00:00')
    """
    minutes = round(hours * 60) % (24 * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def rarity_text(score: float) -> str:
    """Return how rare a score is among ordinary transactions.

    >>> rarity_text(0.99996), rarity_text(0.9), rarity_text(0.2)
    ('1 in 25,000', '1 in 10', 'common')
    """
    share = 1.0 - score
    if share <= 1 / RAREST:
        return "rarer than 1 in 1,000,000,000"
    times = 1 / share
    if times < 2:
        return "common"
    digits = max(0, math.floor(math.log10(times)) - 1)
    return f"1 in {round(times, -digits):,.0f}"


def _nan_to_none(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _window_text(window: Window | None) -> str:
    """Return the window as text, such as ` over 7 days (delayed by 7 days)`."""
    if window is None:
        return ""
    delayed = f" (delayed by {_span(window.delay_s)})" if window.delay_s else ""
    return f" over {_span(window.length_s)}{delayed}"


def _span(seconds: int) -> str:
    """Return a length of whole minutes: `1 day`, `6 hours`, `10 minutes`."""
    count, unit = in_whole_units(seconds)
    return f"1 {unit}" if count == 1 else f"{count} {unit}s"


def _measure_text(feature: Feature) -> str:
    """Return what a feature measures, without its entity and its window."""
    measure = (feature.measure or "").removesuffix("_id").replace("_", " ")
    texts = {
        Function.COUNT: "number of transactions",
        Function.SUM: f"total {measure}",
        Function.MEAN: f"mean {measure}",
        Function.MIN: f"least {measure}",
        Function.MAX: f"greatest {measure}",
        Function.STD: f"spread of the {measure}",
        Function.SHARE: "share of transactions",
        Function.DISTINCT: f"number of different {measure}s",
        Function.FRAUD_RATE: "fraud rate",
        Function.FRAUD_COUNT: "number of known frauds",
        Function.LABEL_COUNT: "number of transactions with a label",
        Function.SECONDS_SINCE_LAST: "quiet before the transaction",
        Function.SECONDS_BETWEEN: "usual gap between transactions",
        Function.FIRST_TIME: "first transaction",
        Function.SAME_SHARE: f"share of earlier transactions with this {measure}",
        Function.DEVIATION: f"distance of the {measure} from its mean, in standard deviations,",
        Function.QUANTILE_RANK: f"share of earlier transactions with a smaller {measure}",
        Function.HOUR_SHARE: "share of earlier transactions near this hour",
        Function.KILOMETRES_SINCE_LAST: "distance from the previous transaction",
        Function.SPEED_SINCE_LAST: "speed since the previous transaction",
    }
    assert feature.function is not None
    condition = f" ({feature.where.name.replace('_', ' ')})" if feature.where else ""
    return texts[feature.function] + condition


def _entity_text(feature: Feature) -> str:
    return feature.entity.name.replace("_", " ") if feature.entity else ""


def _smoothed_text(feature: Feature) -> tuple[str, Feature]:
    """Return what a smoothed rate measures, and the count with its entity and window."""
    part = feature.parts[0]
    is_fraud = part.function is Function.FRAUD_COUNT
    return "chance of fraud" if is_fraud else f"smoothed share of the {_measure_text(part)}", part


def _subject(feature: Feature) -> str:
    """Return a feature as the subject of a sentence."""
    if feature.function is Function.SMOOTHED:
        what, part = _smoothed_text(feature)
        return f"the {_entity_text(part)}'s {what}{_window_text(part.window)}"
    if feature.entity is None:
        return f"the {label(feature.name)}"
    return f"the {_entity_text(feature)}'s {_measure_text(feature)}{_window_text(feature.window)}"


def _amount(feature: Feature, observed: float | None, expected: float | None) -> str:
    about = "" if expected is None else f", expected about {money(round(expected, 2))}"
    if feature.function is None:
        paid = "paid an unknown amount" if observed is None else f"paid {money(observed)}"
        return paid + about
    was = "is not known" if observed is None else f"was {money(round(observed, 2))}"
    return f"{_subject(feature)} {was}{about}"


def _count(feature: Feature, observed: float | None, expected: float | None) -> str:
    was = "is not known" if observed is None else f"was {number(observed)}"
    about = "" if expected is None else f", expected about {number(max(expected, 0.0))}"
    return f"{_subject(feature)} {was}{about}"


def _rate(feature: Feature, observed: float | None, expected: float | None) -> str:
    if feature.function is Function.FIRST_TIME and observed is not None:
        is_it = "" if observed else "not "
        entity = _entity_text(feature)
        return f"{is_it}the first transaction of the {entity}{_window_text(feature.window)}"
    was = "is not known" if observed is None else f"was {percent(observed)}"
    about = "" if expected is None else f", expected {percent(min(max(expected, 0.0), 1.0))}"
    return f"{_subject(feature)} {was}{about}"


def _ratio(feature: Feature, observed: float | None, expected: float | None) -> str:
    part, whole = feature.parts
    about = "" if expected is None else f", expected about {expected:,.3g} times"
    was = "is not known against" if observed is None else f"was {observed:,.3g} times"
    return f"{_subject(part)} {was} {_subject(whole)}{about}"


def _duration(feature: Feature, observed: float | None, expected: float | None) -> str:
    about = "" if expected is None else f", expected {duration(max(expected, 0.0))}"
    if feature.function is Function.SECONDS_BETWEEN:
        was = "is not known" if observed is None else f"was {duration(observed)}"
        return f"{_subject(feature)} {was}{about}"
    if observed is None:
        within = f" within {_span(feature.window.length_s)}" if feature.window else ""
        return f"no earlier transaction{within}{about}"
    return f"{duration(observed)} after the last transaction{about}"


def _hour(feature: Feature, observed: float | None, expected: float | None) -> str:
    at = "at an unknown time" if observed is None else f"at {clock(observed)}"
    return at if expected is None else f"{at}, expected around {clock(expected)}"


def _weekday(feature: Feature, observed: float | None, expected: float | None) -> str:
    on = "on an unknown day" if observed is None else f"on a {WEEKDAYS[round(observed) % 7]}"
    return on if expected is None else f"{on}, expected a {WEEKDAYS[round(expected) % 7]}"


def _in_unit(
    unit: str, *, lowest: float = 0.0
) -> Callable[[Feature, float | None, float | None], str]:
    """Return a function that writes a value with its unit; a lower expectation is not possible."""

    def text(feature: Feature, observed: float | None, expected: float | None) -> str:
        was = "is not known" if observed is None else f"was {observed:,.4g}{unit}"
        about = ""
        if expected is not None:
            about = f", expected about {max(expected, lowest):,.4g}{unit}"
        return f"{_subject(feature)} {was}{about}"

    return text


SENTENCES: dict[Kind, Callable[[Feature, float | None, float | None], str]] = {
    Kind.AMOUNT: _amount,
    Kind.COUNT: _count,
    Kind.RATE: _rate,
    Kind.PROBABILITY: _rate,
    Kind.RATIO: _ratio,
    Kind.DURATION_S: _duration,
    Kind.HOUR_OF_DAY: _hour,
    Kind.DAY_OF_WEEK: _weekday,
    Kind.NUMBER: _in_unit("", lowest=-math.inf),
    Kind.DISTANCE_KM: _in_unit(" km"),
    Kind.SPEED_KMH: _in_unit(" km/h"),
    Kind.AGE_YEARS: _in_unit(" years"),
}


def category_sentence(
    feature_name: str, observed_text: str | None, expected_text: str | None
) -> str:
    """Return what a category was and usually is; an unset expectation is a less frequent value.

    >>> category_sentence("transaction_merchant_category", "travel", "groceries")
    'merchant category travel, usually groceries'
    >>> category_sentence("transaction_merchant_category", "travel", None)
    'merchant category travel, usually one of the less frequent'
    """
    what = feature_name.removeprefix("transaction_").replace("_", " ")
    was = f"unknown {what}" if observed_text is None else f"{what} {observed_text}"
    if observed_text is not None and observed_text == expected_text:
        return f"{was}, as usual"
    return f"{was}, usually {expected_text or 'one of the less frequent'}"


def sentence(
    feature_name: str,
    observed: float | None,
    expected: float | None,
    observed_text: str | None = None,
    expected_text: str | None = None,
) -> str:
    """Return how a transaction stands out by one feature; None and NaN mean "not known".

    Categories have texts instead of numbers. A feature that is no longer in the catalogue appears
    under its name.
    """
    observed, expected = _nan_to_none(observed), _nan_to_none(expected)
    if feature_name == CARD_HISTORY:
        return "the card's earlier transactions"
    feature = FEATURES.get(feature_name)
    if feature is not None and feature.kind is Kind.CATEGORY:
        return category_sentence(feature_name, observed_text, expected_text)
    if feature is not None:
        return SENTENCES[feature.kind](feature, observed, expected)
    if observed_text is not None:
        usually = "" if expected_text is None else f", usually {expected_text}"
        return f"{feature_name} was {observed_text}{usually}"
    was = "is not known" if observed is None else f"was {observed:,.4g}"
    return f"{feature_name} {was}" + (
        "" if expected is None else f", expected about {expected:,.4g}"
    )


def label(feature_name: str) -> str:
    """Return a readable name of a feature, for tables.

    >>> label("merchant_fraud_rate_7d_delay_7d")
    'fraud rate of the merchant over 7 days (delayed by 7 days)'
    """
    feature = FEATURES.get(feature_name)
    if feature is not None and feature.function is Function.SMOOTHED:
        what, part = _smoothed_text(feature)
        return f"{what} of the {_entity_text(part)}{_window_text(part.window)}"
    if feature is not None and feature.kind is Kind.RATIO:
        numerator, denominator = (label(part.name) for part in feature.parts)
        return f"{numerator}, against {denominator}"
    if feature is None or feature.function is None or feature.entity is None:
        return feature_name.replace("_", " ")
    what = "transactions" if feature.function is Function.COUNT else _measure_text(feature)
    return f"{what} of the {_entity_text(feature)}{_window_text(feature.window)}"
