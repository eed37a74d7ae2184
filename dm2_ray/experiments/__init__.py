"""Experiments: conditions x seeds from a YAML file, run as a pipeline of `dm2` commands and compared in a report.

`matrix.py` documents the keys of configs/experiments, `steps.py` turns them into commands, `pipeline.py` runs these,
and `report.py` compares the runs (`learning_curve`, `comparison`, its Markdown and its picture). `quickstart.py` is
one of these experiments with a report of its own. Start with `matrix.py`.
"""
