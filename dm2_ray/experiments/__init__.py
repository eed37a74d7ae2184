"""Runs from configuration to result: training loop, evaluation, the quickstart story, reports and benchmarks."""
