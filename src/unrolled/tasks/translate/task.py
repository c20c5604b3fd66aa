"""Training a translation model on pairs of sentences.

A sentence is cut into symbols (BPE pieces or words) of its side's vocabulary, and one more symbol stands before
the first and after the last. Nothing here needs torch but `TranslateTask.build`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import kinds, vocabulary, whereabouts
from unrolled.architecture import MOST_LAYERS, TranslateArchitecture
from unrolled.errors import InputError
from unrolled.examples import Batches, ExampleOptions, Refused, pad
from unrolled.modelfile import ModelFile
from unrolled.results import Evaluation
from unrolled.settings import setting
from unrolled.tasks.translate.data import Data
from unrolled.tasks.translate.model import AT_ONCE, LONGEST, TranslateModel
from unrolled.tasks.translate.parallel import Pair
from unrolled.tasks.translate.sentences import Symbols, encode, learn
from unrolled.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["TranslateOptions", "TranslateTask"]

BPE_VOCABULARY = 6_000
BUILTIN_VOCABULARY = 320


@dataclass(frozen=True)
class TranslateOptions(ExampleOptions):
    """What a translation model is and how its sentences are read; the command line documents each."""

    held_out: str | None = setting(
        None, "Pairs to measure on, instead of a part of DATA: a TSV, or SOURCE,TARGET with a comma.", several=True
    )
    batch: int = setting(64, "Pairs in a batch.", at_least=1, heading="Training")
    level: str = setting("bpe", "What a symbol is.", choices=("bpe", "word"), heading="Data")
    vocab_size: int | None = setting(
        None,
        "Symbols of each side's vocabulary (bpe: at least 256, one a byte).",
        at_least=2,
        default_help=f"{BPE_VOCABULARY:,} (bpe), {vocabulary.WORD_VOCABULARY:,} (word), "
        f"{BUILTIN_VOCABULARY} (without DATA)",
    )
    shared_vocab: bool = setting(False, "Learn one vocabulary for both sides together.")
    longest: int = setting(LONGEST, "The most symbols of a sentence, in training and in translation.", at_least=1)
    cell: str = setting("lstm", "The recurrent cell.", choices=kinds.PLAIN, heading="Model")
    embedding: int = setting(128, "Width of an embedded symbol.", at_least=1)
    hidden: int = setting(256, "Hidden units of the decoder and of each direction of the encoder.", at_least=1)
    layers: int = setting(1, "Recurrent layers of the encoder.", at_least=1, below=MOST_LAYERS + 1)
    dropout: float = setting(
        0.1,
        "Dropout on embedded symbols, on the encoder's output and on attended vectors.",
        at_least=0,
        below=1,
        heading="Regularisation",
    )
    label_smoothing: float = setting(
        0.1, "Fraction of each target's probability that is spread over all symbols.", at_least=0, below=1
    )


class TranslateTask:
    """Train a translation model on sentences and their translations (without DATA: on numbers in words).

    DATA is two aligned files, SOURCE and TARGET, with a sentence on each line, or a TSV of two columns without a
    heading.
    """

    name: ClassVar[str] = "translate"
    example: ClassVar[str] = "train.de train.en --held-out val.de,val.en --minutes 60"
    Options: ClassVar[type[Any]] = TranslateOptions
    Model: ClassVar[type[Any]] = TranslateModel
    defaults: ClassVar[dict[str, Any]] = {"steps": 320, "lr": 0.01}
    changeable: ClassVar[frozenset[str]] = frozenset({"longest"})
    ready: ClassVar[bool] = False

    def __init__(
        self,
        options: TranslateOptions,
        paths: Sequence[str | Path] = (),
        seed: int = 0,
        start: "Start | None" = None,
    ) -> None:
        self.options = options
        self.seed = seed
        self.start = start
        refused = Refused(options.skip_bad)
        self.data = Data.read(options, paths, seed, refused)
        sides = ([pair.source for pair in self.data.train], [pair.target for pair in self.data.train])
        if start:
            self.source, self.target = start.model.source, start.model.target
        else:
            self.source, self.target = self._learned(sides, builtin=not paths)
        examples = [(encode(self.source, a), encode(self.target, b)) for a, b in zip(*sides, strict=True)]
        self._train = [
            both for both, pair in zip(examples, self.data.train, strict=True) if self._fits(both, pair, refused)
        ]
        if not self._train:
            raise InputError(f"{', '.join(self.data.names)}: no pair is left to train on.")
        self.left_out = len(refused.reasons)
        # By target and, among those of one length, by source: either side is padded to the batch's longest.
        lengths = [len(target) * (options.longest + 2) + len(source) for source, target in self._train]
        self._batches = Batches(lengths, options.batch, seed)

    def _learned(self, sides: tuple[list[str], list[str]], builtin: bool) -> tuple[Vocabulary, Vocabulary]:
        """The vocabularies of source and target."""
        o = self.options
        size = o.vocab_size
        if size is None and o.level == "bpe":
            size = BUILTIN_VOCABULARY if builtin else BPE_VOCABULARY
        if o.shared_vocab:
            both = learn(o.level, sides[0] + sides[1], size)
            return both, both
        source, target = (learn(o.level, side, size) for side in sides)
        return source, target

    def _fits(self, both: tuple[Symbols, Symbols], pair: Pair, refused: Refused) -> bool:
        most = max(map(len, both)) - 1
        if most > self.options.longest:
            refused(f"{pair.place} has {most} symbols, expected at most {self.options.longest} (--longest)")
        return most <= self.options.longest

    @staticmethod
    def files(path: str | Path) -> Sequence[str | Path]:
        """The file of sentences `path`, or two with a comma between."""
        return whereabouts.named(str(path))

    @property
    def architecture(self) -> TranslateArchitecture:
        """The model's sizes."""
        o = self.options
        return TranslateArchitecture(
            o.cell, self.source.size + 1, self.target.size + 1, o.embedding, o.hidden, o.layers
        )

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """How a sentence is cut into symbols, and the model's sizes."""
        sizes = ("cell", "embedding", "hidden", "layers")
        return file.had("level", "vocab_size", "shared_vocab", "longest", *sizes)

    def build(self) -> "torch.nn.Module":
        """A `Translator` with fresh weights."""
        from unrolled.models.translate import Translator

        return Translator(self.architecture, self.options.dropout, self.options.label_smoothing)

    def batch(self, step: int) -> dict[str, NDArray[Any]]:
        """source [S, B], targets [T, B], source_lengths and target_lengths [B]."""
        return self._arranged([self._train[number] for number in self._batches.of(step)])

    @cached_property
    def _held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        pairs = sorted(
            ((encode(self.source, pair.source), encode(self.target, pair.target)) for pair in self.data.held_out),
            key=lambda both: len(both[1]),
        )
        batches = [self._arranged(pairs[first : first + AT_ONCE]) for first in range(0, len(pairs), AT_ONCE)]
        return [(batch, int(batch["target_lengths"].sum())) for batch in batches]

    def held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        """The held-out pairs in batches of like length, each weighted by its target symbols."""
        return self._held_out

    def _arranged(self, examples: Sequence[tuple[Symbols, Symbols]]) -> dict[str, NDArray[Any]]:
        source, source_lengths = pad([source for source, _ in examples])
        targets, target_lengths = pad([target for _, target in examples])
        return {
            "source": source,
            "source_lengths": source_lengths,
            "targets": targets,
            "target_lengths": target_lengths,
        }

    def settings(self) -> dict[str, Any]:
        """The options, how many examples were left out, and the fingerprint of the data."""
        return {**asdict(self.options), "left_out": self.left_out, "data": self.data.fingerprint}

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        sample = {"sample": self.data.held_out[len(self.data.held_out) // 2].source}
        document = {**whereabouts.kept(self.data.names), **self.settings(), **training, **sample}
        encoding = {"source": self.source.to_json(), "target": self.target.to_json()}
        return ModelFile(self.name, self.architecture, encoding, document, tensors)

    def report(self, model: TranslateModel) -> Evaluation:
        """BLEU, chrF and exact matches on the held-out pairs, and some translations."""
        evaluation = model.measure(self.data.held_out)
        return replace(evaluation, figures={**evaluation.figures, "left_out": self.left_out})
