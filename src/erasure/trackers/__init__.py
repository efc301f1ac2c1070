"""Listeners that keep a run's events elsewhere: JSON lines, MLflow, TensorBoard, Weights & Biases. Nothing depends on them."""

from erasure.trackers.contract import Guarded, Tracker, check_tracker, open_tracker
from erasure.trackers.json_lines import JsonLines

__all__ = ["Guarded", "JsonLines", "Tracker", "check_tracker", "open_tracker"]
