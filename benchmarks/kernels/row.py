"""What a row of the benchmark is, and how one is timed: every contestant in turn, again and again.

A small machine that others share is noisy, and slowly so: a contestant that runs a second after another meets
another machine. So all of a row run in turn, the limit among them, and what is reported are medians of the
ratios within a turn.
"""

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

__all__ = ["OWN", "Case", "Limit", "Row", "Trial", "measure"]

OWN = "unrolled"
FEWEST_TURNS = 5
FEWEST_SLOW_TURNS = 2  # where a turn takes longer than all turns were to take
REST = 0.01  # seconds before each, and more as long as threads of the one before still spin, waiting for more work
SHORTEST = 0.02  # seconds: what is quicker runs several times a turn
WARM_UP = 0.01  # seconds in which it runs before that: after a rest a processor's clock takes milliseconds to rise
SLOW = 0.25  # seconds: what takes longer has time enough to warm up in its turn


@dataclass(frozen=True)
class Limit:
    """What the machine itself can do: `run` does `work`, in floating-point operations or bytes, and no more."""

    name: str
    unit: str
    run: Callable[[], object]
    work: float


@dataclass(frozen=True)
class Trial:
    """A case made ready.

    `contestants` run the same problem, the engine (`OWN`) among them. `wrong` says what is wrong with the answer,
    or that a fallback gave it, and is empty where all is well. `work` is the problem's, in the limit's unit;
    without a limit the row has no per cent of one. `bound` is what no program can pass, in the same unit; with it
    the row says which ratios an engine would have that reached it. `note` stands beside the row. `worth` is what a
    contestant's time is multiplied by before it is compared, where it did more than the engine; `memory` is the
    most bytes that one took.
    """

    contestants: dict[str, Callable[[], object]]
    wrong: str
    limit: Limit | None = None
    work: float = 0.0
    note: str = ""
    bound: Limit | None = None
    worth: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One row before it is measured.

    Goals are ratios to peers, by name, of time and of memory; the least share of the limit; and the most of the
    processor time that the system may take.
    """

    name: str
    make: Callable[[], Trial]
    goals: dict[str, float] = field(default_factory=dict)
    share_goal: float | None = None
    memory_goals: dict[str, float] = field(default_factory=dict)
    system_goal: float | None = None


@dataclass(frozen=True)
class Row:
    """One row measured. Seconds are medians; a ratio says how many times as long a peer takes as the engine."""

    name: str
    wrong: str
    seconds: dict[str, float]
    ratios: dict[str, float]
    goals: dict[str, float]
    limit: str
    limit_rate: float  # per second, in this row's turns
    share: float | None  # of the limit, 0 to 1
    share_goal: float | None
    system_share: dict[str, float]  # of the processor time, what the system itself took
    note: str
    most_ratios: dict[str, float] = field(default_factory=dict)  # of an engine that reached the bound
    memory: dict[str, float] = field(default_factory=dict)  # bytes
    memory_ratios: dict[str, float] = field(default_factory=dict)
    memory_goals: dict[str, float] = field(default_factory=dict)
    system_goal: float | None = None

    def figures(self) -> dict[str, Any]:
        """As they stand in a result file."""
        return {**vars(self), "seconds": {name: float(f"{s:.4g}") for name, s in self.seconds.items()}}


def turns(
    runs: dict[str, Callable[[], object]], seconds: float
) -> Iterator[dict[str, tuple[float, float, float]]]:
    """Run each in turn until the time is up: seconds, and the processor's in the program and in the system."""
    repeats, slow, a_turn = {}, {}, 0.0
    for name, run in runs.items():
        repeats[name], taken = repeated(run)
        slow[name] = taken > SLOW
        a_turn += taken
    fewest = FEWEST_TURNS if a_turn < seconds else FEWEST_SLOW_TURNS
    end, done = time.perf_counter() + seconds, 0
    while done < fewest or time.perf_counter() < end:
        turn = {}
        for name, run in runs.items():
            rest()
            if not slow[name]:
                repeat(run, WARM_UP)
            before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            for _ in range(repeats[name]):
                run()
            elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            turn[name] = (elapsed / repeats[name], user, system)
        yield turn
        done += 1


def repeated(run: Callable[[], object]) -> tuple[int, float]:
    """How often one runs in SHORTEST seconds, once at least, and the seconds that this took."""
    run()  # the first one may be slower
    return repeat(run, SHORTEST)


def repeat(run: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Run one for so many seconds, once at least; returns how often, and how long that took."""
    count, started, taken = 0, time.perf_counter(), 0.0
    while not count or taken < seconds:
        run()
        count, taken = count + 1, time.perf_counter() - started
    return count, taken


def rest() -> None:
    """Wait until no thread of this process computes."""
    busy = True
    while busy:
        before = time.process_time()
        time.sleep(REST)
        busy = time.process_time() - before > REST / 10


def measure(case: Case, seconds: float) -> Row:
    """Check a case, then time it for so many seconds."""
    trial = case.make()
    limit = trial.limit
    limits = {one.name: one.run for one in (limit, trial.bound) if one is not None}
    runs = trial.contestants | limits
    found = list(turns(runs, seconds))
    rate = 0.0 if limit is None else limit.work / median(turn[limit.name][0] for turn in found)
    share = None
    if limit is not None:
        least = trial.work / limit.work  # times the limit's run
        share = median(least * turn[limit.name][0] / turn[OWN][0] for turn in found)

    peers = [name for name in trial.contestants if name != OWN]

    def ratio(name: str) -> float:
        worth = trial.worth.get(name, 1.0)
        return round(median(worth * turn[name][0] / turn[OWN][0] for turn in found), 3)

    def most_ratio(name: str, bound: Limit) -> float:
        least = trial.work / bound.work  # times the bound's run
        return round(median(turn[name][0] / (least * turn[bound.name][0]) for turn in found), 3)

    def system_share(name: str) -> float:
        user, system = (sum(turn[name][part] for turn in found) for part in (1, 2))
        return system / max(1e-9, user + system)

    return Row(
        case.name,
        trial.wrong,
        {name: median(turn[name][0] for turn in found) for name in trial.contestants},
        {name: ratio(name) for name in peers},
        case.goals,
        "" if limit is None else f"{limit.name}, {limit.unit}",
        float(f"{rate:.4g}"),
        None if share is None else round(share, 3),
        case.share_goal,
        {name: round(system_share(name), 3) for name in trial.contestants},
        trial.note,
        {} if trial.bound is None else {name: most_ratio(name, trial.bound) for name in peers},
        trial.memory,
        {name: round(most / trial.memory[OWN], 3) for name, most in trial.memory.items() if name != OWN},
        case.memory_goals,
        case.system_goal,
    )
