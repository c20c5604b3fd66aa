"""Whether the first line of a table of sentences is a heading, which names the columns.

Only names that do not translate each other are known here, so that hardly any pair looks like a heading.
"""

import re

__all__ = ["is_heading"]

ROLES = "original sentence sentences source src target text tgt translation trg"
CODES = (
    "ar bg bn ca cs da de el en es et fa fi fr ga he hi hr hu id is it ja ko lt lv nl no pl pt ro ru sk sl sr sv "
    "ta th tr uk ur vi zh"
)
LANGUAGES = (
    "arabic bengali bulgarian catalan chinese croatian czech danish dutch english estonian finnish french german "
    "greek hebrew hindi hungarian icelandic indonesian irish italian japanese korean latvian lithuanian norwegian "
    "persian polish portuguese romanian russian serbian slovak slovenian spanish swedish tamil thai turkish "
    "ukrainian urdu vietnamese"
)
KNOWN = frozenset(f"{ROLES} {CODES} {LANGUAGES}".split())
QUOTES = " \"'"
REGION = re.compile(r"(?<=^[a-z]{2})[-_][a-z]{2,4}$")  # en-US, zh_Hans


def is_heading(source: str, target: str) -> bool:
    """Whether two cells are names of columns: `source` and `target`, `de` and `en-GB`, `German text` and so on.

    Each may stand in quotes.
    """
    cells = [REGION.sub("", cell.strip(QUOTES).lower()) for cell in (source, target)]
    return cells[0] != cells[1] and all(set(re.split(r"[ _-]", cell)) <= KNOWN for cell in cells)
