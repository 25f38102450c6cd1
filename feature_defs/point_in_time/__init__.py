"""Computes features point-in-time correct: with what was known at each transaction's `event_time`.

`compiler.py` is the entry point. `entity_stream.py`, `hot_keys.py`, `label_corrections.py` and
`labels_as_of.py` build Spark plans. `stream_plan.py`, `window_stream.py` and `window_values.py`
compute windows with numpy and run on executors.
"""
