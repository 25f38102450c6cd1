"""What we know about a card when it pays."""

from __future__ import annotations

from feature_defs.definitions import FeatureView, count, days, mean, seconds_since_last
from feature_defs.derived import Ratio
from feature_defs.feature import CARD
from feature_defs.sources import TRANSACTIONS

CARD_SPEND = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
    description="How often and how much the card spent up to this transaction, included.",
)

# A card that is misused for a week pays unusual amounts that soon are its usual ones, so those are
# taken from before. Two weeks were chosen on the handbook's nights before 2018-07-18.
USUAL_DELAY_DAYS = 14

CARD_USUAL_SPEND = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(mean("amount", days(30, delay=USUAL_DELAY_DAYS)),),
    description="How much the card used to spend, before what it does lately.",
)

CARD_RHYTHM = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(seconds_since_last(days(30)),),
    description="How long the card had been quiet.",
)

USUAL_AMOUNT = f"card_amount_mean_30d_delay_{USUAL_DELAY_DAYS}d"
AMOUNT_AGAINST_USUAL = Ratio(
    numerator="transaction_amount",
    denominator=USUAL_AMOUNT,
    description="How many times the card's usual amount this transaction paid.",
)
WEEK_AGAINST_USUAL = Ratio(
    numerator="card_amount_mean_7d",
    denominator=USUAL_AMOUNT,
    description="How many times its usual amount the card paid on average in the last week.",
)
