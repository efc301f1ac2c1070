"""ERASURE: machine unlearning, judged against retraining."""

__version__ = "0.1.0"
