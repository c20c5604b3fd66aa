"""The speech task: sound in, text out, learnt from transcripts alone (connectionist temporal classification).

A causal network reads a log-mel filter bank, so a model hears a stream as it comes.
"""

from unrolled.tasks.speech.data import SpeechOptions
from unrolled.tasks.speech.model import ListenOptions, SpeechModel
from unrolled.tasks.speech.task import SpeechTask

__all__ = ["ListenOptions", "SpeechModel", "SpeechOptions", "SpeechTask"]
