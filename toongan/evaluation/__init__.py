"""Evaluation: how good a run's generator is.

In: an `EvaluateConfig`: the name of a run, and what to compare its images with.
Out: a card: every figure of chapter 05 beside its floor, as `metrics.json` and `metrics.png`.
Imported by: the command line. It imports `runs`, `datasets`, `devices`, lessons and plain modules.
"""

from .measure import evaluate

__all__ = ["evaluate"]
