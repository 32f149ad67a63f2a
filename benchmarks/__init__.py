"""Measurements beside other programs; each module says how it is run."""
