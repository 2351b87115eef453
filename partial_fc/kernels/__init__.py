"""The passes over a rank's class centres, behind one small interface (see tiles.py)."""
