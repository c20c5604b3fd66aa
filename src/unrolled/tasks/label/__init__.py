"""The label task: an event at every step of numbers, words or a film."""

from unrolled.tasks.label.model import EventOptions, LabelModel
from unrolled.tasks.label.task import LabelOptions, LabelTask

__all__ = ["EventOptions", "LabelModel", "LabelOptions", "LabelTask"]
