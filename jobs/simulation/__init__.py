"""A bank that never was: cards with habits, merchants, frauds with a known cause, late labels.

Everything random is a pure function of the seed and of what it is about (`randomness.py`), so
cards and merchants need no table of their own: whoever needs a card's habits computes them
from its number. That leaves no join in the whole bank, and one shuffle per written table.

    plan.py        how large, how long, which seed
    randomness.py  uniforms and normals from hashes
    merchants.py   categories, opening hours, popularity
    cards.py       habits
    payments.py    what card holders do, and what thieves add at a compromised merchant
    frauds.py      stolen cards, card testing, takeovers
    deliveries.py  what reaches the bank, when, with which defects; labels
    folder.py      where it is written
"""
