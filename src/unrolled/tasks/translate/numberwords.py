"""The built-in pairs of the translate task: numbers in words, from German into English.

German says the units before the tens and all in one word (siebenundvierzig), English the other way round
(forty-seven). The words are those of the Unicode CLDR, spelled by the `unicode-rbnf` library.
"""

from functools import cache

import numpy as np

from unrolled.extras import extra
from unrolled.tasks.translate.parallel import Pair

__all__ = ["ALWAYS_KNOWN", "BUILTIN", "pairs"]

BUILTIN = "numbers-in-words"
ALWAYS_KNOWN = 100
"""The first so many pairs have the words that all others are made of: they are never held out."""
DRAWN = {1_000: 900, 10_000: 3_000, 100_000: 4_000, 1_000_000: 4_000}
"""How many numbers are drawn below each of these, and not below a tenth of it."""


@cache
def pairs() -> tuple[Pair, ...]:
    """12,000 numbers below a million, the same ones always: 0 to 99 first, then others in ascending order.

    Raises `InputError` where unicode-rbnf, which spells them, is missing.
    """
    with extra("translate", "without DATA there are numbers in words, which need unicode-rbnf"):
        from unicode_rbnf import RbnfEngine
    rng = np.random.default_rng(0)
    numbers = list(range(ALWAYS_KNOWN))
    for below, count in DRAWN.items():
        least = below // 10
        numbers += sorted(least + rng.choice(below - least, count, replace=False))
    german, english = (RbnfEngine.for_language(language) for language in ("de", "en"))
    spelled = ((german.format_number(int(n)).text, english.format_number(int(n)).text) for n in numbers)
    both = zip(numbers, spelled, strict=True)
    return tuple(Pair(source, target, f"{BUILTIN}, {n}") for n, (source, target) in both)
