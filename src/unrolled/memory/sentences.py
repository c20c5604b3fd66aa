"""Passages in which a word at the end depends on one that stands many words before it.

"I grew up in France. ... I speak fluent French.": which language it is says the country alone, and between the
two stand other sentences: such as "the clouds are in the sky.", whose own last word depends on one a few words
before, and such as "my neighbour from Spain speaks Spanish.", of other countries, which must not be taken for the
one where I grew up. All is drawn from a grammar by a generator of random numbers. Words and full stops are counted
alike.
"""

from collections.abc import Callable, Iterator

import numpy as np

__all__ = ["LANGUAGES", "SHORTEST", "chance", "corpus", "passage", "written"]

Rng = np.random.Generator

LANGUAGES = {
    "France": "French",
    "Germany": "German",
    "Italy": "Italian",
    "Spain": "Spanish",
    "Portugal": "Portuguese",
    "Poland": "Polish",
    "Hungary": "Hungarian",
    "Finland": "Finnish",
    "Sweden": "Swedish",
    "Norway": "Norwegian",
    "Denmark": "Danish",
    "Iceland": "Icelandic",
    "Greece": "Greek",
    "Turkey": "Turkish",
    "Romania": "Romanian",
    "Bulgaria": "Bulgarian",
    "Ukraine": "Ukrainian",
    "Georgia": "Georgian",
    "Armenia": "Armenian",
    "Japan": "Japanese",
    "China": "Chinese",
    "Korea": "Korean",
    "Vietnam": "Vietnamese",
    "Thailand": "Thai",
}
"""The language that is spoken in each country; no two countries share one."""

BEGINNING = ["I", "grew", "up", "in"]
SHORTEST = 4
"""The full stop after the country, and "I speak fluent"."""

PLACES = {
    "clouds": "sky",
    "fish": "sea",
    "books": "library",
    "cows": "meadow",
    "stars": "night",
    "cars": "street",
    "trees": "forest",
    "ships": "harbour",
    "flowers": "garden",
    "letters": "drawer",
    "plates": "kitchen",
    "trains": "station",
}
"""Where things are: their sentences end in a word that one of the same sentence tells."""

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
ADJECTIVES = ["white", "old", "small", "bright", "quiet", "many"]
ASIDES = [
    "yes",
    "well",
    "it rained",
    "nobody spoke",
    "time went by",
    "we all laughed",
    "the wind was cold",
    "she read a long book",
]


def chance() -> float:
    """How often one guesses the language who has forgotten the country."""
    return 1 / len(LANGUAGES)


def passage(gap: int, rng: Rng) -> tuple[list[str], str]:
    """The words of a passage up to its last, and that: a language, with `gap` words between the country and it.

    A gap is at least `SHORTEST`.
    """
    country = list(LANGUAGES)[rng.integers(len(LANGUAGES))]
    filling = gap - SHORTEST
    end = ["I", "now", "speak", "fluent"] if filling == 1 else ["I", "speak", "fluent"]  # no sentence is so short
    between = [] if filling == 1 else _filling(filling, rng)
    return [*BEGINNING, country, ".", *between, *end], LANGUAGES[country]


def corpus(longest: int, words: int, rng: Rng) -> str:
    """A text of at least so many words: passages with gaps up to `longest`, short ones more often than long ones.

    A passage is a line. A gap is drawn as often as its power of -3/4 says: with -1, all orders of magnitude alike,
    few passages are long, and with -1/2 a standard RNN has too few short ones to learn even these.
    """
    lines, count = [], 0
    gaps = np.arange(SHORTEST, longest + 1)
    shares = np.cumsum(gaps**-0.75)
    shares /= shares[-1]
    while count < words:
        said, last = passage(int(gaps[shares.searchsorted(rng.random(), side="right")]), rng)
        line = [*said, last, "."]
        lines.append(written(line))
        count += len(line) + 1
    return "\n".join(lines) + "\n"


def written(words: list[str]) -> str:
    """Words as a line of text: a space between any two, none before a full stop."""
    return " ".join(words).replace(" .", ".")


def _whereabouts(rng: Rng) -> list[str]:
    thing = list(PLACES)[rng.integers(len(PLACES))]
    return ["the", thing, "are", "in", "the", PLACES[thing], "."]


def _described(rng: Rng) -> list[str]:
    return ["the", ADJECTIVES[rng.integers(len(ADJECTIVES))], *_whereabouts(rng)[1:]]


def _dated(rng: Rng) -> list[str]:
    return ["on", DAYS[rng.integers(len(DAYS))], *_whereabouts(rng)]


def _aside(length: int) -> Callable[[Rng], list[str]]:
    known = [aside.split() for aside in ASIDES if len(aside.split()) == length]
    return lambda rng: [*known[rng.integers(len(known))], "."]


def _elsewhere(form: str) -> Callable[[Rng], list[str]]:
    """Sentences of any country, in another form than the first: they say nothing of the last word."""

    def sentence(rng: Rng) -> list[str]:
        country = list(LANGUAGES)[rng.integers(len(LANGUAGES))]
        return [*form.format(country, LANGUAGES[country]).split(), "."]

    return sentence


SENTENCES: dict[int, tuple[Callable[[Rng], list[str]], ...]] = {
    2: (_aside(1),),
    3: (_aside(2),),
    4: (_aside(3), _elsewhere("she left {}")),
    5: (_aside(4), _elsewhere("she lives in {}"), _elsewhere("she lived in {}")),
    6: (_aside(5), _elsewhere("she now lives in {}"), _elsewhere("my neighbour lives in {}")),
    7: (_whereabouts, _elsewhere("my neighbour from {} speaks {}"), _elsewhere("the neighbour from {} speaks {}")),
    8: (
        _described,
        _elsewhere("my old neighbour from {} speaks {}"),
        _elsewhere("she moved from {} and speaks {}"),
    ),
    9: (_dated, _elsewhere("my friendly old neighbour from {} speaks {}")),
}
"""The sentences that stand between, by their number of words."""


def _filling(words: int, rng: Rng) -> Iterator[str]:
    """Sentences of so many words in all; not of one word."""
    while words:
        lengths = [length for length in SENTENCES if length <= words and words - length != 1]
        kinds = SENTENCES[lengths[rng.integers(len(lengths))]]
        sentence = kinds[rng.integers(len(kinds))](rng)
        yield from sentence
        words -= len(sentence)
