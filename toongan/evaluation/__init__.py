"""Evaluation: how good a run's generator is.

In: an `EvaluateConfig`: the name of a run, and what to compare its images with.
Out: a card with every value of chapter 05 beside its floor, as `metrics.json` and `metrics.png`.
Imported by: `sharing` and the command line. It imports `runs`, `datasets`, `devices`, lessons and plain modules.
"""

from .measure import evaluate

__all__ = ["evaluate"]
