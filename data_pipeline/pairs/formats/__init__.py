"""The forms in which the field hands out lists of pairs; `pairs/reading.py` chooses among them."""
