"""Analyses of trained teams and maps: replays, what agents visit, joint divergence from the experts, map difficulty.

`visitation_report.py` compares a team with its experts (`dm2 evaluate --against`); `joint_divergence.py` has the
statistics behind it. `replay.py` records one battle (`dm2 replay`). Nothing of this is used for learning.
"""
