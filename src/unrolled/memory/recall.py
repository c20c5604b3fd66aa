"""An ordinary word model of the text task reads passages in which a word depends on one far before it."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import unrolled
from unrolled.architecture import TextArchitecture
from unrolled.loop import train
from unrolled.memory import sentences
from unrolled.memory.trial import TEST_SEED, TESTED, Budget, Row, Trial, most_hidden
from unrolled.recipe import TrainOptions
from unrolled.tasks.text import TextModel, TextOptions, TextTask

__all__ = ["learn"]

EMBEDDING = 32  # of a word
PASSES = 2  # over the text of passages
STREAMS = 16
DROPOUT = 0.1  # before the head: a country is then kept in more units, and two are less often taken for one


def learn(trial: Trial, budget: Budget) -> list[Row]:
    """An ordinary word model of the text task reads passages with all gaps up to the longest and a quarter more.

    Its streams are read in chunks four times as long, so that the way back in time reaches over most of them.
    """
    longest = trial.gaps[-1]
    chunk = 4 * longest
    words = budget.steps * STREAMS * chunk // PASSES
    rng = np.random.default_rng([trial.seed, longest])
    with tempfile.TemporaryDirectory() as folder:
        text, out = Path(folder) / "passages.txt", Path(folder) / "recall.safetensors"
        text.write_text(sentences.corpus(longest + longest // 4, words, rng), encoding="utf-8")
        given: dict[str, Any] = {
            "level": "word",
            "cell": trial.kind,
            "embedding": EMBEDDING,
            "chunk": chunk,
            "batch": STREAMS,
        }
        given |= {"longest_gap": trial.longest_gap, "dropout": DROPOUT, "split": 0.99}
        symbols = TextTask(TextOptions(**given), [text]).architecture.symbols
        hidden = most_hidden(
            budget.parameters,
            lambda units: TextArchitecture(trial.kind, symbols, EMBEDDING, units, 1).parameters,
        )
        task = TextTask(TextOptions(**given, hidden=hidden), [text], trial.seed)
        for _ in train(task, TrainOptions(steps=budget.steps, lr=budget.lr, seed=trial.seed), out):
            pass
        model: TextModel = unrolled.load(out)
    size = {"hidden": hidden, "parameters": task.architecture.parameters, "steps": budget.steps}
    return [{"gap": gap, **_recalled(model, gap), **size} for gap in trial.gaps]


def _recalled(model: TextModel, gap: int) -> Row:
    """How the last word of passages was foreseen: wrong answers, its mean probability and its median rank."""
    rng = np.random.default_rng(TEST_SEED)
    passages = [sentences.passage(gap, rng) for _ in range(TESTED)]
    begun = [model.vocabulary.encode("\n" + sentences.written(words)) for words, _ in passages]
    last = np.array([model.vocabulary.encode(" " + word)[0] for _, word in passages])
    logits = model.foresee(np.stack(begun, axis=1))
    right = logits[np.arange(TESTED), last]
    probabilities = np.exp(right - np.logaddexp.reduce(logits, axis=1))
    ranks = (logits > right[:, None]).sum(axis=1) + 1
    return {
        "error": float((ranks > 1).mean()),
        "probability": float(probabilities.mean()),
        "rank": float(np.median(ranks)),
    }
