"""The caption task: a picture in, a sentence about it out, by attention to a grid of places and beam search."""

from unrolled.tasks.caption.model import Caption, CaptionModel, CaptionRunOptions
from unrolled.tasks.caption.task import CaptionOptions, CaptionTask

__all__ = ["Caption", "CaptionModel", "CaptionOptions", "CaptionRunOptions", "CaptionTask"]
