"""The label task: an event at every step of numbers, words or a film."""

from unrolled.tasks.label.data import LabelOptions
from unrolled.tasks.label.model import LabelModel
from unrolled.tasks.label.task import LabelTask
from unrolled.tasks.label.telling import EventOptions

__all__ = ["EventOptions", "LabelModel", "LabelOptions", "LabelTask"]
