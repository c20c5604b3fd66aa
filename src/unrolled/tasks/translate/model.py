"""A finished translation model: beam search, alignments, BLEU. It needs torch, where its network runs."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled import plots, vocabulary, whereabouts
from unrolled.causal import Causal
from unrolled.errors import InputError
from unrolled.examples import ExampleOptions, Refused, pad
from unrolled.extras import extra
from unrolled.modelfile import Loaded, ModelFile
from unrolled.results import Evaluation, Output, Table
from unrolled.settings import setting
from unrolled.tasks.translate import alignment, numberwords, parallel
from unrolled.tasks.translate.data import Data
from unrolled.tasks.translate.parallel import Pairs
from unrolled.tasks.translate.sentences import END, Symbols, encode, labels, pieces
from unrolled.texts import placed
from unrolled.vocabulary import WordVocabulary

if TYPE_CHECKING:
    from unrolled.models.translate import Translator

__all__ = ["AT_ONCE", "LONGEST", "TranslateModel", "Translation", "TranslationOptions", "scores"]

AT_ONCE = 64  # sentences translated or measured together
LONGEST = 100  # symbols of a sentence
SHOWN = 5


@dataclass(frozen=True)
class TranslationOptions:
    """How a translation model searches."""

    beam: int = setting(5, "Sentences kept at each step of beam search; 1 takes the likeliest.", at_least=1)
    length_penalty: float = setting(1.0, "Above 0 favours longer translations (Wu et al. 2016).", at_least=0)
    coverage: float = setting(0.0, "Above 0 favours looking at every source word.", at_least=0)
    attention: str | None = setting(None, "Draw what the model attends to, word by word, into this file.")


class Translation(NamedTuple):
    """A translation, its score, and its alignment: attention [T, S] of pieces `target` to pieces `source`."""

    text: str
    score: float
    source: list[str]
    target: list[str]
    attention: NDArray[np.float32]


class TranslateModel(Loaded):
    """A trained translation model: `translate` does, `evaluate` measures. Needs torch.

    Raises `InputError` for a file whose vocabularies do not fit.
    """

    RunOptions: ClassVar[type[Any]] = TranslationOptions

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file)
        self.source, self.target = (vocabulary.from_json(file.encoding.get(side)) for side in ("source", "target"))
        sizes = file.architecture
        if (self.source.size + 1, self.target.size + 1) != (sizes.source_symbols, sizes.target_symbols):
            raise InputError(
                f"its vocabularies have {self.source.size} and {self.target.size} symbols, but the architecture "
                f"{sizes.source_symbols - 1} and {sizes.target_symbols - 1}."
            )
        self._longest = int(file.training.get("longest", LONGEST))

    @property
    def causal(self) -> Causal:
        """Raises `InputError`: this model does not read a stream."""
        raise InputError(
            "a translation model is bidirectional: it reads a sentence from both ends before its first word; a "
            "stream needs a model that reads its input step by step (text, label, forecast, speech)"
        )

    @cached_property
    def network(self) -> "Translator":
        """The model in torch; raises `InputError` where there is none."""
        with extra("train", "translating needs torch"):
            import torch

            from unrolled.models.translate import Translator
        network = Translator(self.file.architecture)
        network.load_state_dict({name: torch.from_numpy(value) for name, value in self.file.tensors.items()})
        return network.eval()

    def translate(
        self, texts: Sequence[str], options: TranslationOptions = TranslationOptions()
    ) -> list[Translation]:
        """The best translation of each text. An unknown word becomes the source word it attends to the most
        (Luong et al. 2015, "Addressing the rare word problem"). Raises `InputError` for a text with no words and
        for what is no list of texts.
        """
        if isinstance(texts, str) or not isinstance(texts, Sequence | np.ndarray):
            raise InputError(f"texts: expected a list of texts, got {type(texts).__name__}")
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str):
                raise InputError(f"text {number} is a {type(text).__name__}, expected a sentence to translate.")
            if not text.strip():
                raise InputError(f"text {number} is empty, expected a sentence to translate.")
        symbols = [encode(self.source, text) for text in texts]
        order = sorted(range(len(texts)), key=lambda number: len(symbols[number]))
        found: dict[int, Translation] = {}
        for first in range(0, len(order), AT_ONCE):
            numbers = order[first : first + AT_ONCE]
            translations = self._search([symbols[n] for n in numbers], [texts[n] for n in numbers], options)
            found |= zip(numbers, translations, strict=True)
        return [found[number] for number in range(len(texts))]

    def _search(
        self, symbols: Sequence[Symbols], texts: Sequence[str], options: TranslationOptions
    ) -> list[Translation]:
        network = self.network
        import torch

        from unrolled import beam

        source, lengths = (torch.from_numpy(array) for array in pad(symbols))
        with torch.no_grad():
            memory = network.encode(source, lengths)
        end = self.target.size
        rows = beam.search(
            network.decoder,
            memory,
            lengths,
            start=end,
            end=end,
            beam=options.beam,
            longest=self._longest,
            length_penalty=options.length_penalty,
            coverage=options.coverage,
        )
        return [self._translation(best, text) for (best, *_), text in zip(rows, texts, strict=True)]

    def _translation(self, best: Any, text: str) -> Translation:
        source = pieces(self.source, text)
        attention = best.attention.numpy()
        written = self.target.texts(best.symbols)
        if isinstance(self.target, WordVocabulary):
            for place, symbol in enumerate(best.symbols):
                if symbol == 0:
                    written[place] = source[int(attention[place, : len(source)].argmax())]
            decoded = "".join(written)
        else:
            decoded = self.target.decode(best.symbols)
        return Translation(decoded.strip(), best.score, [*source, END], [*written, END], attention)

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """BLEU, chrF and exact matches on pairs (default: what was held out of its own), by beam search."""
        return self.measure(self.pairs(paths))

    def pairs(self, paths: Sequence[str | Path] = ()) -> Pairs:
        """Pairs from files (default: what was held out of its training)."""
        return parallel.read(paths, Refused()) if paths else self._held_out()

    def measure(self, pairs: Pairs) -> Evaluation:
        """BLEU, chrF and exact matches on `pairs`, beside those of the bare sources; some are shown."""
        translations = [found.text for found in self.translate([pair.source for pair in pairs])]
        references = [pair.target for pair in pairs]
        ours = scores(translations, references)
        copied = scores([pair.source for pair in pairs], references)
        rows = [
            ["BLEU", f"{ours['bleu']:.2f}", f"{copied['bleu']:.2f}"],
            ["chrF", f"{ours['chrf']:.2f}", f"{copied['chrf']:.2f}"],
            ["exact", f"{ours['exact']:.2%}", f"{copied['exact']:.2%}"],
        ]
        signatures = [["BLEU", ours["bleu_signature"]], ["chrF", ours["chrf_signature"]]]
        searched = {name: value for name, value in asdict(TranslationOptions()).items() if name != "attention"}
        figures = {"sentences": len(pairs), **ours, "source_copied": copied, **searched}
        some = range(0, len(pairs), -(-len(pairs) // SHOWN))
        shown = [f"{pairs[n].source}\n  -> {translations[n]}\n  expected: {references[n]}" for n in some]
        tables = [
            Table([f"{len(pairs):,} pairs", "this model", "source copied"], rows),
            Table(["", "sacreBLEU's signature"], signatures),
        ]
        return Evaluation(figures, tables, "\n".join(shown))

    def _held_out(self) -> Pairs:
        """The pairs that the model was not trained on, read again; `InputError` when they are not the same."""
        training = self.file.training
        options = ExampleOptions.of(training)
        if options.held_out is not None:
            folder = whereabouts.base(training, [options.held_out], self.file.folder)
            apart = (os.path.join(folder, name) for name in whereabouts.named(options.held_out, folder))
            options = replace(options, held_out=",".join(apart))
        paths = whereabouts.data(self.file, numberwords.BUILTIN)
        data = Data.read(options, paths, training["seed"], Refused(options.skip_bad))
        if data.fingerprint != training["data"]:
            raise InputError(f"{', '.join(data.names)}: not the pairs that the model was trained on; name DATA.")
        return data.held_out

    def run(self, inputs: Sequence[str], options: TranslationOptions) -> Iterator[Output]:
        """Translate each of `inputs`: sentences, or files or `-` with one on each line.

        Of a blank line the translation is blank. A sentence that is longer than the model can be trusted with is
        translated, and a line on standard error says so. Raises `InputError` for an empty text, for a file that
        cannot be read, and for several sentences that are to be drawn.
        """
        for number, one in enumerate(inputs, 1):
            if not one.strip():
                raise InputError(f"text {number} is empty, expected a sentence to translate.")
        given = [one for each in inputs for one in placed(each)]
        said = [one for one in given if one.text.strip()]
        if options.attention and len(said) != 1:
            raise InputError(f"--attention draws one sentence, but {len(said)} were given; expected 1.")
        if options.attention:
            plots.check_name(Path(options.attention))
        translations = iter(self.translate([one.text for one in said], options))
        for text, place in given:
            if not text.strip():
                yield Output("", {"source": text, "translation": "", "score": None})
                continue
            found = next(translations)
            if reason := self._doubt(found):
                print(f"unrolled: {place} {reason}; its translation may lack a part.", file=sys.stderr)
            record = {"source": text, "translation": found.text, "score": round(found.score, 4)}
            if options.attention:
                picture = Path(options.attention)
                alignment.draw(picture, found.attention, labels(found.source), labels(found.target))
                record["attention"] = str(picture)
            yield Output(found.text, record)

    def _doubt(self, found: Translation) -> str:
        """Why a translation may not be whole, if there is a reason."""
        read, written = len(found.source) - 1, len(found.target) - 1  # without their ends
        if read > self._longest:
            return f"has {read} symbols, the model was trained on {self._longest} at most"
        if written >= self._longest:
            return f"was translated into {written} symbols, the most that the model writes"
        return ""

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""
        text = shlex.quote(self.file.training["sample"])
        return [f"unrolled run {path} {text} --attention alignment.png", f"unrolled eval {path}"]


def scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """BLEU (Papineni et al. 2002) and chrF (Popović 2015) from 0 to 100 with sacreBLEU's signatures (Post 2018),
    and the part of `translations` that equal their one reference.
    """
    with extra("translate", "measuring translations needs sacrebleu"):
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    figures: dict[str, Any] = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        figures[name] = metric.corpus_score(list(translations), [list(references)]).score
        figures[f"{name}_signature"] = str(metric.get_signature())
    same = [found == expected for found, expected in zip(translations, references, strict=True)]
    return {**figures, "exact": sum(same) / len(same)}
