"""Training a caption model on pictures with captions.

Nothing here needs torch but `CaptionTask.build`, and `architecture` where there is a backbone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import kinds, whereabouts
from unrolled.architecture import CaptionArchitecture
from unrolled.errors import InputError
from unrolled.examples import Batches, ExampleOptions, Refused, pad
from unrolled.modelfile import ModelFile
from unrolled.results import Evaluation
from unrolled.settings import setting
from unrolled.tasks.caption.data import Data, spoken
from unrolled.tasks.caption.model import AT_ONCE, CaptionModel
from unrolled.tasks.caption.pictures import CAPTIONS, Pictures
from unrolled.vocabulary import Vocabulary, WordVocabulary

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["CaptionOptions", "CaptionTask"]

WORDS = 10_000
FORESEEN = 1_000  # held-out pictures whose loss is watched during training


@dataclass(frozen=True)
class CaptionOptions(ExampleOptions):
    """What a caption model is and how its pictures are read; the command line documents each."""

    batch: int = setting(32, "Pictures in a batch.", at_least=1, heading="Training")
    size: int | None = setting(
        None,
        "Pictures are fitted into a square with sides of this many pixels.",
        at_least=8,
        default_help="the longest side of any, at most 128",
        heading="Data",
    )
    vocab_size: int = setting(WORDS, "Words that the model may use, the most frequent ones.", at_least=2)
    width: int = setting(
        24,
        "Channels after the first convolutions; later ones have twice and four times as many.",
        at_least=1,
        heading="Model",
    )
    backbone: str | None = setting(
        None,
        "A network of timm's, instead of convolutions learned from these pictures; it is not trained further.",
    )
    backbone_weights: str | None = setting(None, "The file of the backbone's weights.")
    cell: str = setting("lstm", "The recurrent cell.", choices=kinds.PLAIN)
    embedding: int = setting(128, "Width of an embedded word.", at_least=1)
    hidden: int = setting(256, "Hidden units.", at_least=1)
    dropout: float = setting(
        0.1,
        "Dropout on embedded words and on what attention finds.",
        at_least=0,
        below=1,
        heading="Regularisation",
    )


class CaptionTask:
    """Train a model that says what is in a picture (without DATA: in scenes of handwritten digits).

    DATA is folders in Flickr8k's form: a captions.txt, `image,caption` and a row for each caption, and the
    pictures beside it or in a folder Images.
    """

    name: ClassVar[str] = "caption"
    example: ClassVar[str] = "flickr8k/ --minutes 60"
    Options: ClassVar[type[Any]] = CaptionOptions
    Model: ClassVar[type[Any]] = CaptionModel
    defaults: ClassVar[dict[str, Any]] = {"steps": 1500, "lr": 0.01}
    changeable: ClassVar[frozenset[str]] = frozenset()
    ready: ClassVar[bool] = False

    def __init__(
        self,
        options: CaptionOptions,
        paths: Sequence[str | Path] = (),
        seed: int = 0,
        start: "Start | None" = None,
    ) -> None:
        self.options = replace(options, backbone_weights=None) if start else options  # the model has them
        self.seed = seed
        self.start = start
        if not start and (options.backbone is None) != (options.backbone_weights is None):
            raise InputError("--backbone and --backbone-weights come together: a network of timm and its weights.")
        refused = Refused(options.skip_bad)
        channels = start.model.file.architecture.channels if start else None
        self.data = Data.read(options, paths, seed, refused, options.size, channels)
        self.left_out = len(refused.reasons)
        train = self.data.train
        texts = (spoken(text) for texts in train.captions for text in texts)
        self.vocabulary: Vocabulary = (
            start.model.vocabulary if start else WordVocabulary.learn(texts, options.vocab_size)
        )
        # Not by length: long captions are of other pictures than short ones, and a network that sees now these,
        # now those, learns far more slowly (the built-in scenes, not at all in two minutes).
        self._batches = Batches(np.zeros(len(train), np.int64), options.batch, seed)

    @staticmethod
    def files(path: str | Path) -> Sequence[Path]:
        """The captions of the folder `path`."""
        return [Path(path, CAPTIONS)]

    @cached_property
    def architecture(self) -> CaptionArchitecture:
        """The model's sizes. A backbone is made to know its own."""
        o, train = self.options, self.data.train
        tensors: dict[str, tuple[int, ...]] = {}
        side = memory = 0
        if o.backbone:
            from unrolled.models.backbone import Backbone

            tensors, side, memory = Backbone(o.backbone, train.channels).sizes(train.size)
        return CaptionArchitecture(
            channels=train.channels,
            size=train.size,
            width=0 if o.backbone else o.width,
            backbone=o.backbone or "",
            backbone_tensors=tensors,
            backbone_side=side,
            backbone_memory=memory,
            cell=o.cell,
            symbols=self.vocabulary.size + 1,  # the last is the boundary, before a caption and after it
            embedding=o.embedding,
            hidden=o.hidden,
        )

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """How a picture is read, the words, and the model's sizes."""
        sizes = ("width", "backbone", "backbone_weights", "cell", "embedding", "hidden")
        return {**file.had("vocab_size", *sizes), "size": file.architecture.size}

    def build(self) -> "torch.nn.Module":
        """A `CaptionNetwork` with fresh weights."""
        from unrolled.models.caption import CaptionNetwork

        return CaptionNetwork(self.architecture, self.options.dropout, self.options.backbone_weights)

    def batch(self, step: int) -> dict[str, NDArray[Any]]:
        """pictures [B, C, S, S]; targets [T, B] and target_lengths [B]: a caption of each, drawn at every step."""
        places = self._batches.of(step)
        return self._batch(self.data.train, places, np.random.default_rng([self.seed, step]))

    def held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        """The first thousand held-out pictures, each with one of its captions; the weight is a batch's words."""
        return self._held_out

    @cached_property
    def _held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        held_out, rng = self.data.held_out, np.random.default_rng(self.seed)
        batches = []
        for places in np.split(np.arange(min(FORESEEN, len(held_out))), range(AT_ONCE, FORESEEN, AT_ONCE)):
            if len(places):
                batch = self._batch(held_out, places, rng)
                batches.append((batch, int(batch["target_lengths"].sum())))
        return batches

    def _batch(
        self, examples: Pictures, places: NDArray[np.integer], rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        captions = [examples.captions[int(place)] for place in places]
        texts = [one[int(rng.integers(len(one)))] for one in captions]
        spelled = [np.append(self.vocabulary.encode(spoken(text)), self.vocabulary.size) for text in texts]
        targets, lengths = pad(spelled)
        return {"pictures": examples.pixels(places), "targets": targets, "target_lengths": lengths}

    def settings(self) -> dict[str, Any]:
        """The options, what was left out and the fingerprint of the data."""
        return {**asdict(self.options), "left_out": self.left_out, "data": self.data.fingerprint}

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        example = {"example": self.data.held_out.names[0]}
        document = {**whereabouts.kept(self.data.names), **self.settings(), **training, **example}
        return ModelFile(self.name, self.architecture, self.vocabulary.to_json(), document, tensors)

    def report(self, model: CaptionModel) -> Evaluation:
        """BLEU and exact match on the held-out pictures, and a few of its captions beside people's."""
        evaluation = model.measure(self.data.held_out)
        return replace(evaluation, figures={**evaluation.figures, "left_out": self.left_out})
