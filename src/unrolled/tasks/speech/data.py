"""Sounds to train on and sounds held out, the symbols of their texts, and the filter bank that they need."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from unrolled import examples, kinds
from unrolled.architecture import CONVOLVED_MELS, CONVOLVED_STACK, MOST_LAYERS, convolved_context
from unrolled.errors import InputError
from unrolled.examples import ExampleOptions, Refused
from unrolled.settings import setting
from unrolled.tasks.speech import audio, transcripts
from unrolled.tasks.speech.augment import AugmentOptions
from unrolled.tasks.speech.filterbank import Bank
from unrolled.tasks.speech.transcripts import Recordings
from unrolled.vocabulary import CharVocabulary, Vocabulary

__all__ = ["Data", "SpeechOptions", "usable"]


@dataclass(frozen=True)
class SpeechOptions(AugmentOptions, ExampleOptions):
    """What a speech model is and how its sounds are read; the command line documents each."""

    rate: int | None = setting(
        None,
        "Samples a second; sounds of another rate are resampled.",
        at_least=audio.LOWEST_RATE,
        below=audio.HIGHEST_RATE + 1,
        default_help=f"that of the lowest file, at most {transcripts.HIGHEST_RATE:,}",
        heading="Data",
    )
    mels: int = setting(40, "Filters in the filter bank.", at_least=1, heading="Model")
    stack: int = setting(3, "Frames of 10 ms in one step of the model.", at_least=1)
    channels: int = setting(
        0,
        "Channels of the first of three convolutions before the recurrent layers (which take "
        f"--stack {CONVOLVED_STACK}); 0 for none.",
        at_least=0,
    )
    cell: str = setting("lstm", kinds.HELP, unmet=kinds.unmet)
    hidden: int = setting(256, "Hidden units in each layer.", at_least=1)
    layers: int = setting(2, "Recurrent layers.", at_least=1, below=MOST_LAYERS + 1)
    dropout: float = setting(
        0.1, "Dropout between layers and before the head.", at_least=0, below=1, heading="Regularisation"
    )


@dataclass(frozen=True)
class Data:
    """Sounds to train on and sounds held out, the symbols of their texts, and the filter bank that they need."""

    train: Recordings
    held_out: Recordings
    vocabulary: Vocabulary
    bank: Bank
    fingerprint: str
    refused: Refused

    @classmethod
    def read(
        cls,
        options: SpeechOptions,
        paths: Sequence[str | Path],
        seed: int,
        known: Vocabulary | None = None,
        bank: Bank | None = None,
    ) -> Self:
        """Read the sounds of these tables (without: the built-in ones), divided as `options` say.

        Texts are of `known` characters (default: those of the texts to train on), and sounds are for the filter
        `bank` of a model (default: as `options` have it). Raises `InputError` for convolutions that do not fit
        `options`, for a table that cannot be read, and where nothing is left to train on, or to hold out.
        """
        if options.channels and options.stack != CONVOLVED_STACK:
            raise InputError(
                f"stack is {options.stack}, expected {CONVOLVED_STACK} for convolutions (--channels)."
            )
        if options.channels and options.mels < CONVOLVED_MELS:
            raise InputError(
                f"mels is {options.mels}, expected at least {CONVOLVED_MELS} for convolutions (--channels)."
            )
        refused = Refused(options.skip_bad)
        whole = transcripts.read(paths, options.rate, refused) if paths else transcripts.builtin(options.rate)
        context = convolved_context() if options.channels else 0
        bank = bank or Bank.usual(whole.rate, options.mels, options.stack, context)
        whole = usable(whole, None, bank, refused)
        if options.held_out is None:
            train, held_out = (
                transcripts.select(whole, part.tolist())
                for part in examples.divide(len(whole), options.split, seed)
            )
        else:
            train, held_out = whole, transcripts.read([options.held_out], whole.rate, refused)
        if known:
            train = usable(train, known, bank, refused)
        known = known or CharVocabulary.learn(train.texts)
        held_out = usable(held_out, known, bank, refused)
        digest = hashlib.sha256(f"{whole.fingerprint} {held_out.fingerprint}".encode()).hexdigest()
        return cls(train, held_out, known, bank, digest, refused)


def usable(recordings: Recordings, known: Vocabulary | None, bank: Bank, refused: Refused) -> Recordings:
    """Those whose text is of `known` characters (None: of any) and no longer than the model's steps.

    Raises `InputError` where none is left.
    """
    chosen = []
    for number, text in enumerate(recordings.texts):
        place = recordings.places[number]
        try:
            if known is not None:
                known.encode(text)
        except InputError as error:
            refused(f"{place}: {error}")
            continue
        samples = round(recordings.seconds[number] * bank.rate)
        steps = bank.steps(samples + bank.padding(samples))
        needed = len(text) + sum(one == other for one, other in pairwise(text))
        if needed > steps:
            refused(
                f"{place}: {recordings.seconds[number]:.2f} seconds make {steps} steps, expected at least "
                f"{needed} for its {len(text)} characters (a smaller --stack makes more)"
            )
            continue
        chosen.append(number)
    if not chosen:
        names = ", ".join(recordings.names)
        raise InputError(f"{names}: no sound is left whose transcript can be used{refused.first}")
    return recordings if len(chosen) == len(recordings) else transcripts.select(recordings, chosen)
