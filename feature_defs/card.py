"""Features of a card at the moment of its payment.

Views over pairs of keys, such as a card at a merchant (entity `CARD_AT_MERCHANT` of `feature.py`),
are declared here too: "the card's payments at this merchant in the last 14 days" is
`count(days(14))` in a view of that entity. The catalogue has no such view today. A new view also
goes into `VIEWS` of `catalogue.py`. Features of the merchant alone are in `merchant.py`, those of
the transaction itself in `transaction.py`.
"""

from __future__ import annotations

from feature_defs.derived import Ratio
from feature_defs.feature import CARD
from feature_defs.language import FeatureView, count, days, mean, seconds_since_last
from feature_defs.sources import TRANSACTIONS

CARD_SPEND = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
    description="How often and how much the card spent, this transaction included.",
)

# When a card is misused for a week, its unusual amounts soon enter its own mean. So the usual
# amount is the mean of a window that ended earlier. Two weeks were chosen on the nights of the
# handbook data before 2018-07-18.
USUAL_DELAY_DAYS = 14

CARD_USUAL_SPEND = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(mean("amount", days(30, delay=USUAL_DELAY_DAYS)),),
    description="The card's usual amount: its mean over 30 days that ended two weeks ago.",
)

CARD_RHYTHM = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(seconds_since_last(days(30)),),
    description="Time since the card's previous payment.",
)

USUAL_AMOUNT = f"card_amount_mean_30d_delay_{USUAL_DELAY_DAYS}d"
AMOUNT_AGAINST_USUAL = Ratio(
    numerator="transaction_amount",
    denominator=USUAL_AMOUNT,
    description="Amount of this transaction, as a multiple of the card's usual amount.",
)
WEEK_AGAINST_USUAL = Ratio(
    numerator="card_amount_mean_7d",
    denominator=USUAL_AMOUNT,
    description="Mean amount of the card's last week, as a multiple of its usual amount.",
)
