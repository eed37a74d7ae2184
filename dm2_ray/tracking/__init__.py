"""Who is told about a run: metrics.jsonl, TensorBoard, Weights & Biases and summary.json, from the driver only."""

from __future__ import annotations

from dm2_ray.tracking.metrics_log import MetricsLog, TrackingError, flatten, read_metrics
from dm2_ray.tracking.tracker import Tracker

__all__ = ["MetricsLog", "Tracker", "TrackingError", "flatten", "read_metrics"]
