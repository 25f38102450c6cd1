"""Definitions and a recipe of a bank, outside the packages: the wheel does not contain them."""

from dataclasses import replace

from feature_defs.feature import CARD
from feature_defs.language import FeatureView, days, same_share
from feature_defs.sources import TRANSACTIONS
from fraud_models.config import ModelConfig
from fraud_models.recipes import lstm_autoencoder

OWN_FEATURE = "card_channel_same_share_14d"
VIEWS = (FeatureView(CARD, TRANSACTIONS, (same_share("channel", days(14)),), "Usual channel."),)


def channel_autoencoder() -> ModelConfig:
    """Read the bank's own feature and the category of each payment."""
    base = lstm_autoencoder()
    return replace(base, columns=(*base.columns, OWN_FEATURE, "transaction_merchant_category"))


RECIPES = {"channel_autoencoder": channel_autoencoder}
