"""Training a text model: parallel streams of text in chunks of T steps, the state carried from chunk to chunk.

This is truncated backpropagation through time. Nothing here needs torch but `TextTask.build`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import kinds, vocabulary, whereabouts
from unrolled.architecture import MOST_LAYERS, TextArchitecture
from unrolled.errors import InputError
from unrolled.modelfile import ModelFile
from unrolled.recipe import longest_gap
from unrolled.results import Evaluation, Table
from unrolled.settings import setting
from unrolled.tasks.text import corpus, ngram
from unrolled.tasks.text.model import Score, TextModel

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["TextOptions", "TextTask"]

HELD_OUT_STREAMS = 64
HELD_OUT_LEAD = 200
HELD_OUT_CHUNK = 256
HELD_OUT_SYMBOLS = 1 << 18  # that training measures each time, so that it is over in seconds
BEGUN_ANEW = 0.1  # of the streams at every chunk: else a model answers only from states that have gone on for long
BASELINE_SYMBOLS = 5_000_000  # the baselines count in memory: of a longer text, its last part


@dataclass(frozen=True)
class TextOptions:
    """What a text model is and how its text is read; the command line documents each."""

    level: str = setting("char", "What a symbol is.", choices=vocabulary.LEVELS)
    vocab_size: int | None = setting(
        None,
        "Symbols of a word or bpe vocabulary (bpe: at least 256, one a byte).",
        at_least=2,
        default_help=f"{vocabulary.WORD_VOCABULARY:,} and {vocabulary.BPE_VOCABULARY:,}",
    )
    held_out: str | None = setting(None, "Text to measure on, a file or a folder, instead of a part of DATA.")
    split: float = setting(
        0.9, "Fraction of the text to train on; the rest, its end, is held out.", above=0, below=1
    )
    cell: str = setting("lstm", kinds.HELP, unmet=kinds.unmet, heading="Model")
    embedding: int = setting(64, "Width of an embedded symbol.", at_least=1)
    hidden: int = setting(256, "Hidden units in each layer.", at_least=1)
    layers: int = setting(1, "Recurrent layers.", at_least=1, below=MOST_LAYERS + 1)
    longest_gap: int | None = longest_gap()
    dropout: float = setting(
        0.1, "Dropout between layers and before the head.", at_least=0, below=1, heading="Regularisation"
    )
    batch: int = setting(16, "Streams of text read in parallel.", at_least=1, heading="Training")
    chunk: int = setting(
        100, "Steps of backpropagation through time; the state is carried from chunk to chunk.", at_least=1
    )


class TextTask:
    """Train a language model on texts (without DATA: on Python's own language reference).

    DATA is text files in UTF-8 (with --level byte, any files), or folders, whose .txt files are read in the order
    of their names.
    """

    name: ClassVar[str] = "text"
    example: ClassVar[str] = "book.txt --minutes 10"
    Options: ClassVar[type[Any]] = TextOptions
    Model: ClassVar[type[Any]] = TextModel
    defaults: ClassVar[dict[str, Any]] = {}
    changeable: ClassVar[frozenset[str]] = frozenset()
    ready: ClassVar[bool] = False

    def __init__(
        self,
        options: TextOptions,
        paths: Sequence[str | Path] = (),
        seed: int = 0,
        start: "Start | None" = None,
    ) -> None:
        self.options = options
        self.seed = seed
        self.start = start
        apart = [] if options.held_out is None else [options.held_out]
        known = start.model.vocabulary if start else None
        self.corpus = corpus.read(paths, options.level, options.vocab_size, options.split, known, apart)
        names = ", ".join(self.corpus.names)
        if self.corpus.vocabulary.size < 2:
            only = self.corpus.vocabulary.decode([0])
            raise InputError(f"{names}: the only character is {only!r}, expected at least two.")
        # A stream is read in whole chunks, from a start that moves by less than a chunk from pass to pass.
        room = len(self.corpus.train) - 1 - options.chunk
        self._chunks = room // options.batch // options.chunk
        if self._chunks < 1:
            raise InputError(
                f"{names}: the training part has {len(self.corpus.train):,} symbols, "
                f"too few for {options.batch} streams of {options.chunk} steps; expected at least "
                f"{(options.batch + 1) * options.chunk + 1:,} (use a smaller batch or chunk, or more text)."
            )
        if len(self.corpus.held_out) < 2:
            raise InputError(
                f"{options.held_out or names}: the held-out part has a single symbol, expected at least two."
            )

    @staticmethod
    def files(path: str | Path) -> Sequence[Path]:
        """The files of text that `path` is read as."""
        return corpus.files(Path(path))

    @property
    def architecture(self) -> TextArchitecture:
        """The model's sizes."""
        o = self.options
        return TextArchitecture(o.cell, self.corpus.vocabulary.size, o.embedding, o.hidden, o.layers)

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """How a text is read, and the model's sizes."""
        sizes = file.had("vocab_size", "cell", "embedding", "hidden", "layers", "longest_gap")
        return {"level": file.encoding["level"], **sizes}

    def build(self) -> "torch.nn.Module":
        """A `LanguageModel` with fresh weights."""
        from unrolled.models.text import LanguageModel

        return LanguageModel(self.architecture, self.options.dropout, self.options.longest_gap)

    def batch(self, step: int) -> dict[str, NDArray[Any]]:
        """inputs, targets and resets, each [T, B].

        The state is reset where a pass over the text begins, and in some streams at any chunk.
        """
        T, B = self.options.chunk, self.options.batch
        epoch, chunk = divmod(step, self._chunks)
        shift = int(np.random.default_rng([self.seed, epoch]).integers(T)) if epoch else 0
        starts = shift + np.arange(B) * self._chunks * T + chunk * T
        symbols = self.corpus.train[starts + np.arange(T + 1)[:, None]].astype(np.int64)
        resets = np.zeros((T, B), bool)
        resets[0] = chunk == 0 or np.random.default_rng([self.seed, epoch, chunk]).random(B) < BEGUN_ANEW
        return {"inputs": symbols[:-1], "targets": symbols[1:], "resets": resets}

    def held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        """The held-out text as parallel streams, each led in by the symbols before it, which do not count.

        Quick, and next to the same as one stream with the state carried through. Of a text of more than
        `HELD_OUT_SYMBOLS`, each stream reads but the beginning of its part.
        """
        held_out = self.corpus.held_out
        before = self.corpus.train[-HELD_OUT_LEAD:]
        text = np.concatenate([before, held_out])
        streams = max(1, min(HELD_OUT_STREAMS, len(held_out) // HELD_OUT_LEAD))
        room = len(held_out) // streams
        length = min(room, HELD_OUT_SYMBOLS // streams)
        starts = np.arange(streams) * room
        lead = len(before)
        batches = []
        for begin, end in itertools.pairwise([1, *range(lead, lead + length, HELD_OUT_CHUNK), lead + length]):
            symbols = text[starts + np.arange(begin - 1, end)[:, None]].astype(np.int64)
            weight = (end - begin) * streams if begin >= lead else 0
            batches.append(({"inputs": symbols[:-1], "targets": symbols[1:]}, weight))
        return batches

    def settings(self) -> dict[str, Any]:
        """The options and the fingerprints of the data."""
        prints = {"data": self.corpus.fingerprint, "held_out_data": self.corpus.held_out_fingerprint}
        return {**asdict(self.options), **prints}

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        document = {**whereabouts.kept(self.corpus.names), **self.settings(), **training}
        return ModelFile(self.name, self.architecture, self.corpus.vocabulary.to_json(), document, tensors)

    def report(self, model: TextModel) -> Evaluation:
        """The held-out loss beside two baselines computed on the same split, and a sample."""
        held_out, size = self.corpus.held_out, self.corpus.vocabulary.size
        train = self.corpus.train[-BASELINE_SYMBOLS:]
        baselines = {"unigram": ngram.unigram(train, held_out, size), "5-gram": ngram.ngram(train, held_out, size)}
        score = model.score_symbols(held_out)
        scores = {name: Score(nats, score.count) for name, nats in baselines.items()}
        rows = [[name, *one.row()] for name, one in {**scores, f"this {self.options.cell}": score}.items()]
        figures = {"held_out": score.figures(), "baselines_nats": baselines}
        table = Table(["held-out loss", *Score.COLUMNS], rows)
        return Evaluation(figures, [table], "".join(model.sample(length=400)))
