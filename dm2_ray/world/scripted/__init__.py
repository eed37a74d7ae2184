"""Scripted teams: experts without training, and baselines."""
