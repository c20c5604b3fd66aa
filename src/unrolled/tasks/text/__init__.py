"""The text task: a language model over characters, bytes, words or BPE pieces."""

from unrolled.tasks.text.model import Score, TextModel
from unrolled.tasks.text.sampling import SampleOptions
from unrolled.tasks.text.task import TextOptions, TextTask

__all__ = ["SampleOptions", "Score", "TextModel", "TextOptions", "TextTask"]
