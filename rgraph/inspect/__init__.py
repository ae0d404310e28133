"""Summaries, pictures, plans, profiles and NaN checks."""
