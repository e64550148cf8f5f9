"""Sums over what was recorded, of one tenant or of all, for surfaces that show how things stand."""
