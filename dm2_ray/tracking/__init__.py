"""Where a run's metrics go (from the driver only): metrics.jsonl, TensorBoard, Weights & Biases and summary.json.

    tracker.py               writes each record to all of them; start here
    metrics_log.py           metrics.jsonl
    tensorboard_events.py    TensorBoard's event files
    wandb_run.py             Weights & Biases

README.md explains every metric.
"""

from __future__ import annotations

from dm2_ray.tracking.metrics_log import MetricsLog, TrackingError, flatten, read_metrics
from dm2_ray.tracking.tracker import Tracker

__all__ = ["MetricsLog", "Tracker", "TrackingError", "flatten", "read_metrics"]
