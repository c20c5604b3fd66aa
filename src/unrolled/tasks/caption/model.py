"""A finished caption model: beam search, where it looked, BLEU. It needs torch, where its network runs."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import plots, vocabulary, whereabouts
from unrolled.causal import Causal
from unrolled.errors import InputError, counted
from unrolled.examples import ExampleOptions, Refused
from unrolled.extras import extra
from unrolled.modelfile import Loaded, ModelFile
from unrolled.results import Evaluation, Output, Table
from unrolled.settings import setting
from unrolled.tasks.caption import panels, pictures, scenes
from unrolled.tasks.caption.data import Data
from unrolled.tasks.caption.pictures import Pictures

if TYPE_CHECKING:
    from unrolled.models.caption import CaptionNetwork

__all__ = ["AT_ONCE", "Caption", "CaptionModel", "CaptionRunOptions", "scores"]

LONGEST = 50  # words
BEAM = 4
LENGTH_PENALTY = 0.7
AT_ONCE = 64  # pictures
SHOWN = 6
ORDERS = (1, 2, 3, 4)  # of BLEU: the longest runs of words that are compared


@dataclass(frozen=True)
class CaptionRunOptions:
    """How a caption model writes."""

    beam: int = setting(
        BEAM, "Sentences kept at each step of beam search; 1 takes the likeliest word.", at_least=1
    )
    attention: str | None = setting(None, "Draw what the model attends to, word by word, into this file.")


@dataclass(frozen=True)
class Caption:
    """A caption, its score (`beam.search`), its pieces (words and marks), and where the model looked for each:
    [pieces, rows, columns].
    """

    text: str
    score: float
    pieces: Sequence[str]
    attention: NDArray[np.float32]


class CaptionModel(Loaded):
    """A trained caption model: `captions` writes about pictures. Needs torch.

    Raises `InputError` for a file whose vocabulary does not fit.
    """

    RunOptions: ClassVar[type[Any]] = CaptionRunOptions

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file)
        self.vocabulary = vocabulary.from_json(file.encoding)
        if self.vocabulary.size + 1 != file.architecture.symbols:
            raise InputError(
                f"the vocabulary has {self.vocabulary.size} words, but the architecture "
                f"{file.architecture.symbols - 1}."
            )

    @property
    def causal(self) -> Causal:
        """Raises `InputError`: this model does not read a stream."""
        raise InputError(
            "a caption model looks at a whole picture before its first word; a stream needs a model that reads "
            "its input step by step (text, label, forecast, speech)"
        )

    @cached_property
    def network(self) -> "CaptionNetwork":
        """The model in torch; raises `InputError` where there is none."""
        with extra("train", "a caption model needs torch to run"):
            import torch

            from unrolled.models.caption import CaptionNetwork
        network = CaptionNetwork(self.file.architecture)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in self.file.tensors.items()})
        return network.eval()

    def captions(self, pixels: NDArray[np.uint8], beam: int = BEAM) -> list[Caption]:
        """The likeliest caption of each picture [B, C, S, S], found by beam search.

        Raises `InputError` for pictures that are not bytes or not of the model's channels C and side S, and for a
        `beam` below 1.
        """
        sizes = self.file.architecture
        shape = (sizes.channels, sizes.size, sizes.size)
        if not isinstance(pixels, np.ndarray):
            raise InputError(f"pixels: expected an array, got {type(pixels).__name__}")
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != shape:
            expected, got = _bracketed("B", *shape), _bracketed(*pixels.shape)
            raise InputError(f"pixels: expected uint8 {expected}, got {pixels.dtype} {got}")
        if beam < 1:
            raise InputError(f"beam is {beam}, expected at least 1")
        network = self.network
        import torch

        from unrolled import beam as beam_search

        side, boundary = sizes.side, self.vocabulary.size
        written = []
        for begin in range(0, len(pixels), AT_ONCE):
            with torch.no_grad():
                memory, lengths = network.look(torch.from_numpy(np.array(pixels[begin : begin + AT_ONCE])))
            for found in beam_search.search(
                network.decoder,
                memory,
                lengths,
                start=boundary,
                end=boundary,
                beam=beam,
                longest=LONGEST,
                length_penalty=LENGTH_PENALTY,
            ):
                symbols = found[0].symbols
                attention = found[0].attention[: len(symbols)].numpy().reshape(-1, side, side)
                pieces = [text.strip() for text in self.vocabulary.texts(symbols)]
                text = self.vocabulary.decode(symbols).strip()
                written.append(Caption(text, found[0].score, pieces, attention))
        return written

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """BLEU and exact match, by beam search, on folders of pictures (default: what was held out of its own)."""
        return self.measure(self.pictures(paths))

    def pictures(self, paths: Sequence[str | Path] = ()) -> Pictures:
        """Captioned pictures of folders, as this model takes them (default: what was held out of its training)."""
        sizes = self.file.architecture
        return pictures.read(paths, Refused(), sizes.size, sizes.channels) if paths else self._held_out()

    def _held_out(self) -> Pictures:
        """The pictures that the model was not trained on, read again; `InputError` when they are not the same."""
        sizes, training = self.file.architecture, self.file.training
        names = [] if training["names"] == [scenes.BUILTIN] else training["names"]
        options = ExampleOptions.of(training)
        apart = [options.held_out] if options.held_out else []
        base = whereabouts.base(training, [*names, *apart], self.file.folder)
        refused = Refused(options.skip_bad)
        data = Data.read(options, names, training["seed"], refused, sizes.size, sizes.channels, base)
        if data.fingerprint != training["data"]:
            raise InputError(
                f"{', '.join(data.names)}: not the pictures that the model was trained on; name a folder."
            )
        return data.held_out

    def measure(self, examples: Pictures) -> Evaluation:
        """BLEU and exact matches on these pictures; some are shown."""
        written: list[str] = []
        for begin in range(0, len(examples), AT_ONCE):
            written += (one.text for one in self.captions(examples.pixels(slice(begin, begin + AT_ONCE))))
        figures = scores(written, examples.captions)
        rows = [[f"BLEU-{order}", f"{figures[f'bleu{order}']:.2f}"] for order in ORDERS]
        rows.append(["exact", f"{figures['exact']:.2%}"])
        shown = "\n\n".join(
            f"{name}: {text}\n  of a person: {' | '.join(references)}"
            for name, text, references in zip(examples.names[:SHOWN], written, examples.captions, strict=False)
        )
        table = Table([counted(len(examples), "picture"), "this model"], rows)
        return Evaluation({"pictures": len(examples), **figures}, [table], shown)

    def run(self, inputs: Sequence[str], options: CaptionRunOptions) -> Iterator[Output]:
        """A caption for each picture file of `inputs`; with `attention`, a drawing of where the model looked.

        Raises `InputError` for a file that is no picture, and for several that are to be drawn.
        """
        if options.attention is not None and len(inputs) != 1:
            raise InputError(f"--attention draws one picture, but {len(inputs)} were given; expected one INPUT.")
        if options.attention is not None:
            plots.check_name(Path(options.attention))
        sizes = self.file.architecture
        for path in inputs:
            pixels = pictures.read_picture(path, sizes.size, sizes.channels)
            (caption,) = self.captions(pixels[None], options.beam)
            record = {"picture": path, "caption": caption.text, "score": round(caption.score, 4)}
            if options.attention is not None:
                panels.draw(Path(options.attention), pixels.transpose(1, 2, 0), caption.pieces, caption.attention)
                record["attention"] = options.attention
            yield Output(caption.text if len(inputs) == 1 else f"{path}: {caption.text}", record)

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""
        example = shlex.quote(whereabouts.path(self.file, self.file.training["example"]))
        return [f"unrolled run {path} {example} --attention looked.png", f"unrolled eval {path}"]


def _bracketed(*sizes: object) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def scores(written: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to 4 against all references, and the part of the captions that are one of their references.

    BLEU is sacrebleu's, of the corpus, from 0 to 100 (Papineni et al. 2002; Post 2018), with its own cutting of
    words ("13a"). A picture may have any number of references.
    """
    with extra("pictures", "measuring captions needs sacrebleu"):
        from sacrebleu.metrics.bleu import BLEU
    most = max(map(len, references))
    streams = [[texts[n] if n < len(texts) else "" for texts in references] for n in range(most)]
    figures = {}
    for order in ORDERS:
        bleu = BLEU(lowercase=True, force=True, max_ngram_order=order)
        figures[f"bleu{order}"] = float(bleu.corpus_score(written, streams).score)
    same = [text in texts for text, texts in zip(written, references, strict=True)]
    return {**figures, "exact": sum(same) / len(same)}
