"""How far back a trained model remembers: all probes in one report, and what they say in plain words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from unrolled import _engine
from unrolled.errors import InputError, counted
from unrolled.memory import ENDURANCE, context, endurance, reach, units
from unrolled.memory.context import Context, Horizon
from unrolled.memory.endurance import Endurance
from unrolled.memory.reach import Reach
from unrolled.memory.subject import Passages, Subject
from unrolled.memory.trained import subject
from unrolled.memory.units import Units
from unrolled.results import Evaluation, Table

__all__ = ["Memory", "remember"]

LONG = 1000  # steps
GROWN = 2.0  # times
WORSE = 1.05  # times
UNMOVED = 1e-6  # of a state, or in total variation of an output


@dataclass(frozen=True)
class Memory:
    """What the probes found. Losses are in nats a step."""

    step: str
    full: float
    contexts: list[Context]
    horizon: Horizon
    gradients: list[Reach]
    substitutions: list[Reach]
    units: list[Units]
    endurance: Endurance | None
    """None for a model that begins anew with every sequence."""
    heeded: float
    """How much the state changes the output: the mean total variation between knowing the past and not."""

    def verdict(self) -> str:
        """One paragraph for people."""
        return " ".join([*self._state(), *self._context(), *self._units(), *self._endurance()])

    def _state(self) -> list[str]:
        if max(one.moves for one in self.units) < UNMOVED:
            return ["The state never changes: this model remembers nothing at all."]
        if self.heeded < UNMOVED:
            return ["The state changes, but the output ignores it: this model answers by the present step alone."]
        return []

    def _context(self) -> list[str]:
        k, step = self.horizon.k, self.step
        none, longest = self.contexts[0], self.contexts[-1].k
        losses = f"With none the loss is {none.loss:.3f} nats a {step}, with all {self.full:.3f}."
        if k == 0 and none.high < -context.WITHIN * self.full:
            return [f"It does better by the present {step} alone: what went before raises the loss.", losses]
        if k == 0:
            return [f"It uses the present {step} alone; what went before lowers the loss by less than 1 %."]
        low, high = self.horizon.low, self.horizon.high
        bounds = f"{low:,} to {high:,}" if high is not None else f"at least {low:,}"
        if k == longest:
            more = "more may help: no longer context could be measured"
        else:
            more = "more does not help" if high is not None else "these data leave open whether more helps"
        return [f"It uses about {counted(k, step)} of context ({bounds}); {more}.", losses]

    def _units(self) -> list[str]:
        said = []
        total = sum(one.hidden for one in self.units)
        lives = [life for one in self.units for life in one.half_lives or ()]
        if lives:
            long = sum(life > LONG for life in lives)
            said.append(
                f"{long} of {total} units hold information for longer than {LONG:,} {self.step}s (half-life by "
                f"their gates); the median holds it for {np.median(lives):.3g}."
            )
        saturated, still = (sum(len(getattr(one, name)) for one in self.units) for name in ("saturated", "still"))
        if saturated or still:
            said.append(
                f"Of {counted(total, 'unit')} saturated nearly always: {saturated}; never moving: {still}."
            )
        return said

    def _endurance(self) -> list[str]:
        found = self.endurance
        if found is None:
            return ["It begins anew with every sequence."]
        if not found.finite:
            return [f"Run without a reset, its state stops being a number within {found.steps[-1]:,} steps."]
        grown = found.sizes[-1] / max(found.sizes[0], 1e-12)
        steps = f"Over {found.steps[-1]:,} steps without a reset"
        losses = f"the loss goes from {found.early:.3f} to {found.late:.3f}"
        size = f"grows {grown:.3g} times" if grown > GROWN else f"stays as large as it was ({grown:.2f} times)"
        if not found.comparable:
            return [f"{steps} the state {size}; more --steps than the data have would compare the loss, too."]
        advice = ": reset it now and then." if found.late > WORSE * found.early else "."
        return [f"{steps} the state {size} and {losses}{advice}"]

    def figures(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {**asdict(self), "verdict": self.verdict()}

    @classmethod
    def from_figures(cls, figures: dict[str, Any]) -> Self:
        """What `figures` was made of."""
        given = {name: value for name, value in figures.items() if name != "verdict"}
        lists = {"contexts": Context, "gradients": Reach, "substitutions": Reach, "units": Units}
        given |= {name: [kind(**one) for one in given[name]] for name, kind in lists.items()}
        endured = given["endurance"]
        given["endurance"] = None if endured is None else Endurance(**endured)
        return cls(**given | {"horizon": Horizon(**given["horizon"])})

    def evaluation(self) -> Evaluation:
        """The figures and their tables."""
        rows = [
            [f"{one.k:,}", f"{one.loss:.4f}", _signed(one.excess), f"{_signed(one.low)} to {_signed(one.high)}"]
            for one in self.contexts
        ]
        tables = [Table([f"{self.step}s of context", "nats", "above full context", "95 % interval"], rows)]
        replaced = [
            [f"{one.k:,}", f"{one.median:.4f}", f"{one.low:.4f} to {one.high:.4f}"] for one in self.substitutions
        ]
        tables.append(
            Table([f"{self.step} replaced, this far back", "output moves by", "8 of 10 steps"], replaced)
        )
        return Evaluation(self.figures(), tables, self.verdict())


def remember(
    model: Any, paths: str | Path | Sequence[str | Path] = (), seed: int = 0, steps: int = ENDURANCE
) -> Memory:
    """Look at a model that `unrolled.load` opened on data (default: what was held out of its training).

    `seed` chooses what is looked at, of many sentences or pictures and of their steps; `steps` are run without a
    reset at the end.

    Raises `InputError` for data that it cannot read, what is no such model, `steps` under 2 and a negative seed.
    """
    if not isinstance(steps, int) or steps < 2:
        raise InputError(f"steps is {steps!r}, expected a whole number, at least 2")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}, expected a whole number, at least 0")
    _engine.keep_freed_memory()
    paths = [paths] if isinstance(paths, str | Path) else paths
    looked_at = subject(model, paths, seed)
    return of_subject(looked_at, looked_at.passages(seed), seed, steps)


def of_subject(looked_at: Subject, passages: Passages, seed: int = 0, steps: int = ENDURANCE) -> Memory:
    """All the probes of one model; `steps` without a reset, where it may read on and on."""
    full, contexts = context.by_context(looked_at, passages, seed)
    return Memory(
        looked_at.step,
        full,
        contexts,
        context.horizon(full, contexts),
        reach.gradients(looked_at, passages, seed),
        reach.substitutions(looked_at, passages, seed),
        units.of_layers(passages),
        endurance.endure(looked_at, steps) if looked_at.endless else None,
        _heeded(looked_at, passages),
    )


def _signed(number: float) -> str:
    """With its sign, which nothing has not."""
    told = f"{number:+.4f}"
    return told if float(told) else told[1:]


def _heeded(looked_at: Subject, passages: Passages) -> float:
    valid = torch.arange(len(passages.x))[:, None] < passages.lengths
    with torch.no_grad():
        alone, _ = looked_at.run(passages.x[valid][None], passages.sequences.expand(valid.shape)[valid])
        without = looked_at.logits(alone[0]).softmax(-1)
        return float(0.5 * (without - passages.logits[valid].softmax(-1)).abs().sum(-1).mean())
