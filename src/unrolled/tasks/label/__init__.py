"""The label task: an event at every step of numbers, words or a film."""

from unrolled.tasks.label.model import LabelModel
from unrolled.tasks.label.task import LabelOptions, LabelTask
from unrolled.tasks.label.telling import EventOptions

__all__ = ["EventOptions", "LabelModel", "LabelOptions", "LabelTask"]
