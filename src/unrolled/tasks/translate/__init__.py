"""The translate task: text in, text out, by attention and beam search."""

from unrolled.tasks.translate.model import TranslateModel, Translation, TranslationOptions
from unrolled.tasks.translate.task import TranslateOptions, TranslateTask

__all__ = ["TranslateModel", "TranslateOptions", "TranslateTask", "Translation", "TranslationOptions"]
