"""Simulate a bank: cards with habits, merchants, frauds with a known cause, delayed labels.

Every random value is a pure function of the seed and of keys such as the card's number
(`randomness.py`). Cards and merchants therefore need no table: their properties are computed from
their number. The simulation has no join and only one shuffle per written table.

    plan.py        size, length and seed of a simulation
    randomness.py  uniform and normal values from hashes
    merchants.py   categories, opening hours, popularity
    cards.py       cards and their spending habits
    payments.py    ordinary payments, and cloned payments at compromised merchants
    frauds.py      stolen cards, card testing, account takeovers
    deliveries.py  deliveries with late rows and defects; labels; ground truth
    folder.py      the output folder and its completion markers
"""
