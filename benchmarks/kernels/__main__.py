"""How fast the engine is, beside its peers and the machine's own limits.

    python -m benchmarks.kernels [GROUP] [PART OF A ROW'S NAME...] [--seconds 3] [--list]

Each row's answer is checked against the float64 reference; then the engine, its peers and what limits it (a large
sgemm, or moving memory) are timed in turn, again and again, in this one run, and the medians of the ratios within
a turn are reported. A wrong answer, or one that a fallback gave, is said in its row and fails the run.
Rows are recorded in `benchmarks/results/kernels-GROUP-ISA.json`, by the instruction set; the last line is all of
them as JSON.

The peers need `pip install '.[bench]'`. A machine that others use at the same time gives no figures worth keeping.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.kernels import autocast, limits, memory, products, ragged, step, symbols, training, variants
from benchmarks.kernels.row import OWN, Case, Limit, Row, measure, turns
from benchmarks.record import RESULTS, record

GROUPS: dict[str, Callable[[], Iterable[Case]]] = {
    "training": training.training_cases,
    "autocast": autocast.autocast_cases,
    "forward": training.forward_cases,
    "calls": training.call_cases,
    "last": training.last_cases,
    "products": products.product_cases,
    "ragged": ragged.ragged_cases,
    "variants": variants.variant_cases,
    "symbols": symbols.symbol_cases,
    "memory": memory.memory_cases,
    "step": step.step_cases,
    "weights": step.weights_cases,
}


def main() -> int:
    """Measure the rows that are asked for and record them; 1 where any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=list(GROUPS), nargs="?", help="default: all")
    parser.add_argument("rows", nargs="*", help="parts of rows' names; default: all rows")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    parser.add_argument("--list", action="store_true", help="print the names of the rows and end")
    arguments = parser.parse_args()
    chosen = {
        group: [
            case for case in cases() if not arguments.rows or any(part in case.name for part in arguments.rows)
        ]
        for group, cases in GROUPS.items()
        if arguments.group in (None, group)
    }
    if not any(chosen.values()):
        parser.error(f"no row's name has any of {', '.join(arguments.rows)} in it; --list prints them")
    if arguments.list:
        print(*(f"{group} {case.name}" for group, cases in chosen.items() for case in cases), sep="\n")
        return 0
    found: dict[str, Any] = {
        "machine": machine.describe() | {"threads": torch.get_num_threads(), "torch": torch.__version__},
        "sgemm": rate_of(limits.sgemm()),
        "peak": rate_of(limits.peak()),
        "copy": rate_of(limits.copy()),
    }
    rates = " of ".join(f"{found[name] / 1e9:.0f}" for name in ("sgemm", "peak"))
    print(f"sgemm {rates} GFLOP/s, copy {found['copy'] / 1e9:.1f} GB/s", file=sys.stderr)
    groups = {}
    for group, cases in chosen.items():
        rows = []
        for case in cases:
            rows.append(measure(case, arguments.seconds))
            print(f"{group} {line(rows[-1])}", file=sys.stderr, flush=True)
        if rows:
            show(group, rows)
            groups[group] = [row.figures() for row in rows]
            merge(group, found, rows)
    print(json.dumps(found | groups))
    return 1 if any(row["wrong"] for rows in groups.values() for row in rows) else 0


def rate_of(limit: Limit) -> float:
    """What the machine does a second: the best of several runs, which nothing disturbed."""
    best = min(turn[limit.name][0] for turn in turns({limit.name: limit.run}, 0.5))
    return float(f"{limit.work / best:.4g}")


def merge(group: str, found: dict[str, Any], rows: list[Row]) -> None:
    """Put rows in their group's file, in the place of what this machine measured of the same names before."""
    name = f"kernels-{group}-{found['machine']['isa']}.json"
    before: list[dict[str, Any]] = []
    if (RESULTS / name).exists():
        recorded = json.loads((RESULTS / name).read_text())
        if recorded["machine"] == found["machine"]:
            before = recorded["rows"]
    merged = {row["name"]: row for row in before} | {row.name: row.figures() for row in rows}
    kept = [merged[case.name] for case in GROUPS[group]() if case.name in merged]
    record(name, {"command": f"python -m benchmarks.kernels {group}", **found, "rows": kept})


def show(group: str, rows: list[Row]) -> None:
    """Print a table for people."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row.ratios))
    bounded = list(dict.fromkeys(peer for row in rows for peer in row.most_ratios))
    fatter = list(dict.fromkeys(peer for row in rows for peer in row.memory_ratios))
    memory_columns = ["memory", *(f"x {peer}" for peer in fatter)] if fatter else []
    ratio_columns = [*(f"x {peer}" for peer in peers), *(f"x {peer} at the peak" for peer in bounded)]
    table = Table("row", OWN, *ratio_columns, *memory_columns, "of limit", "system", "", title=group)
    for row in rows:
        table.add_row(*cells_of(row, peers, bounded, fatter), style="red" if row.wrong else None)
    Console(width=160).print(table)


def cells_of(row: Row, peers: list[str], bounded: list[str], fatter: list[str]) -> list[str]:
    """A row's text, `!` where it is short of its goal."""
    share = ""
    if row.share is not None:
        short = row.share_goal is not None and row.share < row.share_goal
        share = f"{100 * row.share:.0f} %{'!' if short else ''} of {row.limit.split(',')[0]}"
    system = row.system_share[OWN]
    most = f"{row.memory[OWN] / 2**20:.0f} MiB" if row.memory else ""
    return [
        row.name,
        duration(row.seconds[OWN]),
        *ratio_cells(row.ratios, row.goals, peers),
        *ratio_cells(row.most_ratios, row.goals, bounded),
        *([most, *ratio_cells(row.memory_ratios, row.memory_goals, fatter)] if fatter else []),
        share,
        f"{100 * system:.1f} %{'!' if row.system_goal is not None and system > row.system_goal else ''}",
        f"WRONG: {row.wrong}" if row.wrong else row.note,
    ]


def ratio_cells(ratios: dict[str, float], goals: dict[str, float], peers: list[str]) -> list[str]:
    """How many times as much each peer takes, `!` where that is less than the goal."""
    return [
        f"{ratios[peer]:.2f}{'!' if ratios[peer] < goals.get(peer, 0) else ''}" if peer in ratios else ""
        for peer in peers
    ]


def line(row: Row) -> str:
    """A row as one line, while others are still to come."""
    return "  ".join(
        part for part in cells_of(row, list(row.ratios), list(row.most_ratios), list(row.memory_ratios)) if part
    )


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


if __name__ == "__main__":
    sys.exit(main())
