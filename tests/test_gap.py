"""The experiment of the growing gap: trials learn, are kept, go on after a stop, and refuse what cannot be."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from unrolled.errors import InputError
from unrolled.locks import holding
from unrolled.memory import curves, drawn, gap, recall
from unrolled.memory.gap import Experiment, GapOptions, Results
from unrolled.memory.problems import PROBLEMS, Drawn
from unrolled.memory.trial import CELLS, Budget, Trial, most_hidden

TINY: dict[str, Any] = {"steps": 2, "parameters": 1000, "batch": 4, "seeds": 2, "jobs": 2}


def problem(name: str) -> Drawn:
    found = PROBLEMS[name]
    assert isinstance(found, Drawn)
    return found


def options(**given: Any) -> GapOptions:
    return GapOptions(**TINY | given)


@pytest.mark.parametrize("cell", (*CELLS, "lstm-layer_norm-proj0.5"))
def test_networks_have_at_most_the_parameters_of_the_budget(cell: str) -> None:
    for parameters in (1000, 20_000):
        budget = Budget(parameters, 1, 2, 0.02, 20)
        (row,) = drawn.learn(problem("adding"), Trial("adding", cell, (5,), 0), budget)
        assert 0.85 * parameters < row["parameters"] <= parameters


def test_gates_are_opened_for_the_longest_gap_of_a_chrono_cell_alone() -> None:
    trials = [Trial("recall", cell, (4, 9), 0) for cell in ("lstm", "lstm-chrono")]
    assert [(one.kind, one.longest_gap) for one in trials] == [("lstm", None), ("lstm", 9)]


def test_a_network_is_made_for_the_gap_that_it_is_told() -> None:
    torch.manual_seed(0)
    usual, opened = (
        drawn.SequenceNetwork(problem("adding"), "lstm", 50, longest).recurrent[0] for longest in (None, 100)
    )
    assert usual.get_parameter("bias_ih_l0").max().item() == 1
    assert opened.get_parameter("bias_ih_l0").max().item() > 3


def test_the_most_hidden_units_are_those_that_fit() -> None:
    assert most_hidden(100, lambda units: units * units) == 10
    assert most_hidden(0, lambda units: units) == 1


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("order-2", "lstm"),
        ("order-3", "gru"),
        ("order-2", "lstm-chrono"),
        ("order-2", "lstm-coupled-chrono"),
        ("order-2", "lstm-layer_norm-proj0.5"),
    ],
)
def test_a_short_gap_is_learned(name: str, cell: str) -> None:
    torch.manual_seed(0)
    (row,) = drawn.learn(problem(name), Trial(name, cell, (20,), 0), Budget(20_000, 400, 32, 0.02, 20))
    assert row["error"] < 0.01 and row["steps"] < 400 and row["reached"] == 20


def test_the_gap_grows_as_the_network_learns() -> None:
    torch.manual_seed(0)
    (row,) = drawn.learn(problem("order-2"), Trial("order-2", "lstm", (60,), 0), Budget(20_000, 600, 32, 0.02, 15))
    assert 15 < row["reached"] <= 60  # what is solved at 60 before training has come there is done
    assert row["error"] < 0.01


def test_training_begins_at_no_shorter_gap_than_a_problem_has() -> None:
    (row,) = drawn.learn(problem("order-2"), Trial("order-2", "rnn", (12,), 0), Budget(1000, 2, 4, 0.02, 1))
    assert row["reached"] == 10


def test_a_network_that_diverges_is_not_trained_on() -> None:
    (row,) = drawn.learn(problem("adding"), Trial("adding", "rnn", (5,), 0), Budget(1000, 100, 4, 1e30, 5))
    assert (row["error"], row["steps"]) == (None, 5)


def test_gates_are_opened_before_recall_is_learned() -> None:
    def begun(cell: str) -> Any:
        torch.manual_seed(0)
        return recall.learn(Trial("recall", cell, (8,), 0), Budget(1000, 20, 4, 1e-30, 20))[0]["probability"]

    assert begun("lstm") != begun("lstm-chrono")


def test_recall_is_learned_over_a_short_gap() -> None:
    torch.manual_seed(0)
    near, far = recall.learn(Trial("recall", "lstm", (4, 8), 0), Budget(20_000, 1200, 32, 0.03, 20))
    assert (near["gap"], far["gap"]) == (4, 8)
    assert near["error"] < 0.5 * PROBLEMS["recall"].chance(4) and near["rank"] == 1 and near["probability"] > 0.4
    assert near["parameters"] <= 20_000


class Knowing:
    """A word model to whom every right word is symbol 0: it foresees it, but in each fourth passage two others."""

    def __init__(self) -> None:
        self.vocabulary, self.read = self, list[str]()

    def encode(self, text: str) -> np.ndarray[Any, Any]:
        self.read.append(text)
        return np.zeros(1, np.int64)

    def foresee(self, symbols: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits = np.tile([2.0, 0.0, 0.0, 0.0], (symbols.shape[1], 1))
        logits[::4] = [0.0, 1.0, 1.0, -1.0]
        return logits


def test_how_a_word_is_recalled_is_how_often_how_surely_and_at_which_rank() -> None:
    model, again = Knowing(), Knowing()
    found = recall._recalled(cast(Any, model), 5)
    surely, hardly = np.exp(2) / (np.exp(2) + 3), 1 / (1 + 2 * np.exp(1) + np.exp(-1))
    assert found == {"error": 0.25, "probability": pytest.approx(0.75 * surely + 0.25 * hardly), "rank": 1.0}
    begun, last = model.read[: len(model.read) // 2], model.read[len(model.read) // 2 :]
    assert all(text.startswith("\n") for text in begun) and all(re.fullmatch(r" \w+", text) for text in last)
    recall._recalled(cast(Any, again), 5)
    assert again.read == model.read, "the same passages for every network"


def test_an_experiment_goes_on_from_its_result_file(tmp_path: Path) -> None:
    out = tmp_path / "gap.json"
    first = Experiment(["adding"], options(cells="rnn,gru", gaps="4,6"), out)
    assert len(first.trials) == 8
    running = first.run()
    done, _ = next(running)
    running.close()
    again = Experiment(["adding"], options(cells="rnn,gru", gaps="4,6"), out)
    assert len(again.trials) == 7 and done not in again.trials
    assert len(list(again.run())) == 7
    finished = Experiment(["adding"], options(cells="rnn,gru", gaps="4,6"), out)
    assert finished.trials == [] == list(finished.run())
    rows = gap.read(out).rows
    assert {(row["cell"], row["gap"], row["seed"]) for row in rows} == {
        (cell, gap, seed) for cell in ("rnn", "gru") for gap in (4, 6) for seed in (0, 1)
    }
    assert all(row["chance"] == 1 / 6 and not row["solved"] for row in rows)


def test_a_trial_gives_the_same_numbers_beside_others_and_alone(tmp_path: Path) -> None:
    def errors(name: str, **given: Any) -> dict[Any, Any]:
        experiment = Experiment(["order-2"], options(cells="lstm", gaps="12", **given), tmp_path / name)
        list(experiment.run())
        return {row["seed"]: row["error"] for row in experiment.results.rows}

    assert errors("together", jobs=2) == errors("alone", jobs=1)


def test_each_seed_has_first_weights_and_sequences_of_its_own(one_thread: None) -> None:
    adding = problem("adding")

    def errors(learn: Any, lr: float) -> list[float]:
        return [learn(Trial("adding", "rnn", (5,), seed), Budget(1000, 3, 4, lr, 5)) for seed in (0, 1, 0)]

    def seeded(trial: Trial, budget: Budget) -> Any:
        torch.manual_seed(0)
        return drawn.learn(adding, trial, budget)[0]["error"]

    for found in (
        errors(lambda *work: gap._run(work)[1][0]["error"], lr=1e-30),  # of the first weights, which stay
        errors(seeded, lr=0.1),
    ):
        assert found[0] == found[2] != found[1]


def test_a_trial_runs_in_one_thread(one_thread: None) -> None:
    torch.set_num_threads(2)
    gap._run((Trial("adding", "rnn", (5,), 0), Budget(1000, 1, 4, 0.02, 5)))
    assert torch.get_num_threads() == 1


def test_there_is_a_result_file_before_the_first_trial_is_done(tmp_path: Path) -> None:
    """Who stops an experiment is told that the file has what was done."""
    assert list(Experiment([], options(), tmp_path / "gap.json").run()) == []
    assert gap.read(tmp_path / "gap.json").rows == []


def test_results_are_shown_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    row = {"problem": "copy", "gap": 20, "chance": 0.5, "steps": 7}
    rows = [
        {**row, "cell": "rnn", "seed": 0, "error": 0.4, "solved": False},
        {**row, "cell": "rnn", "seed": 1, "error": None, "solved": False},
        {**row, "cell": "lstm", "seed": 0, "error": 0.01, "solved": True},
    ]
    results = Results(asdict(options().budget()), rows)
    evaluation = results.evaluation()
    (table,) = evaluation.tables
    assert evaluation.shown.startswith("Below each cell: how many of its seeds solved")
    assert list(table.columns)[2:] == ["rnn", "lstm"]
    assert table.rows[0][2:] == ["0 of 2, 0.4", "1 of 1, 0.01"]
    curves.draw(tmp_path / "gap.png", results)
    assert (tmp_path / "gap.png").read_bytes().startswith(b"\x89PNG")


def rows_of(problem: str, cell: str, gap: int, *errors: float | None) -> list[dict[str, Any]]:
    """The rows of as many seeds as there are errors, of problems whose chance is 0.5 and which 0.1 solves."""
    given = {"problem": problem, "cell": cell, "gap": gap, "chance": 0.5, "steps": 7}
    return [
        {**given, "seed": seed, "error": error, "solved": error is not None and error < 0.1}
        for seed, error in enumerate(errors)
    ]


SEVERAL = [
    *rows_of("adding", "lstm-peephole", 50, 0.25),
    *rows_of("adding", "rnn", 100, None, None),
    *rows_of("adding", "rnn", 50, 0.4, 0.05),
    *rows_of("copy", "gru", 20, 0.75),
]


def test_results_have_a_table_for_each_problem_with_the_cells_that_were_tried_on_it() -> None:
    adding, copy = Results(asdict(options().budget()), SEVERAL).evaluation().tables
    assert list(adding.columns)[2:] == ["rnn", "lstm-peephole"] and list(copy.columns)[2:] == ["gru"]
    assert [row[2:] for row in adding.rows] == [["1 of 2, 0.05", "0 of 1, 0.25"], ["0 of 2, diverged", ""]]
    assert Results(asdict(options().budget()), []).evaluation().shown == ""


def test_the_end_of_a_trial_is_told_as_people_write_it() -> None:
    row: dict[str, Any] = {"solved": False, "steps": 1200}
    assert gap.outcome({**row, "solved": True, "error": 0.0}) == "solved in 1,200 steps"
    assert gap.outcome({**row, "error": 1 / 7}) == "error 0.143"
    assert gap.outcome({**row, "error": None}) == "diverged"


def test_what_was_learned_is_drawn_between_chance_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr("unrolled.plots.save", lambda figure, path: figures.append(figure))
    curves.draw(tmp_path / "gap.png", Results({}, SEVERAL))
    adding, copy = figures[0].axes
    shown = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in adding.lines}
    assert shown["rnn"] == ([50, 100], [pytest.approx(0.55), 0.0])
    assert shown["lstm-peephole"] == ([50], [0.5])
    assert list(copy.lines[0].get_ydata()) == [0.0], "worse than chance"
    assert adding.get_xlabel() == "gap (steps)"
    band, dots = adding.collections[:2]  # of the standard RNN, of whose seeds one solved a gap
    assert {round(y, 6) for x, y in band.get_paths()[0].vertices if x == 50} == {0.2, 0.9}
    assert (dots.get_facecolors() == 1).all(), "white"


def test_a_gap_that_every_seed_solved_is_a_full_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr("unrolled.plots.save", lambda figure, path: figures.append(figure))
    curves.draw(tmp_path / "gap.png", Results({}, rows_of("recall", "rnn", 4, 0.05, 0.05)))
    (axes,) = figures[0].axes
    dots = axes.collections[1]
    assert axes.get_xlabel() == "gap (words)" and (dots.get_facecolors() == dots.get_edgecolors()).all()


def test_a_trial_of_several_gaps_is_done_when_all_of_them_are(tmp_path: Path) -> None:
    budget = asdict(options().budget())
    Results(budget, [*rows_of("recall", "rnn", 4, 0.5, 0.5), *rows_of("recall", "rnn", 6, 0.5)]).write(
        tmp_path / "gap.json"
    )
    (left,) = Experiment(["recall"], options(cells="rnn", gaps="6,4"), tmp_path / "gap.json").trials
    assert (left.gaps, left.seed) == ((4, 6), 1)


def test_a_trial_that_is_done_again_takes_the_place_of_what_it_did(tmp_path: Path) -> None:
    given = options(cells="rnn", gaps="4,6", seeds=1, steps=20)
    Results(asdict(given.budget()), rows_of("recall", "rnn", 4, 0.5)).write(tmp_path / "gap.json")
    assert len(list(Experiment(["recall"], given, tmp_path / "gap.json").run())) == 1
    assert [row["gap"] for row in gap.read(tmp_path / "gap.json").rows] == [4, 6]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"cells": "rnn,lstn"},
            "'lstn' is not a cell; expected one of rnn, gru, lstm, or a variant of one (did you mean 'lstm'?)",
        ),
        ({"cells": "rnn-chrono"}, "expected a GRU or an LSTM before -chrono"),
        ({"gaps": "0"}, "adding: the gap is 0, expected 2 to"),
        ({"gaps": "-4"}, "adding: the gap is -4, expected"),
        ({"gaps": "ten"}, "gaps are 'ten', expected whole numbers"),
    ],
)
def test_what_cannot_be_tried_is_refused(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        Experiment(["adding"], options(**given), tmp_path / "gap.json")


def test_an_unknown_problem_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'addding' is not a problem; expected recall, adding"):
        Experiment(["addding"], options(), tmp_path / "gap.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1", "is not a result file of `unrolled gap`"),
        ('{"format": "unrolled gap 0"}', "has the format 'unrolled gap 0', expected 'unrolled gap 1'"),
        ("[]", "has the format None"),
        *(
            (json.dumps({"format": "unrolled gap 1", "budget": budget, "rows": rows}), "is damaged: expected")
            for budget, rows in (
                ({}, [{"problem": "copy"}]),
                ({}, 3),
                ({}, [3]),
                (None, []),
                ({}, rows_of("coppy", "rnn", 5, 0.1)),
                ({}, rows_of("copy", "rnm", 5, 0.1)),
            )
        ),
    ],
)
def test_a_file_that_holds_no_results_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / "gap.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(sentence)):
        Experiment(["adding"], options(), tmp_path / "gap.json")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gap\.json could not be read: Is a directory\."):
        (tmp_path / "gap.json").mkdir()
        Experiment(["adding"], options(), tmp_path / "gap.json")


def test_cells_and_gaps_are_tried_once_each(tmp_path: Path) -> None:
    given = options(cells=" rnn, gru,rnn", gaps="6, 4,6")
    trials = Experiment(["adding"], given, tmp_path / "gap.json").trials
    assert trials == [
        Trial("adding", cell, (gap,), seed) for gap in (4, 6) for seed in (0, 1) for cell in ("rnn", "gru")
    ]


@pytest.mark.parametrize("name", ["adding", "copy", "recall"])
def test_a_problem_is_solved_by_less_than_its_error_says(name: str) -> None:
    tried = PROBLEMS[name]
    most = tried.solved(50)
    for error, solved in ((most, False), (0.99 * most, True), (None, False)):
        assert gap._judged(tried, {"gap": 50, "error": error}) == {"solved": solved, "chance": tried.chance(50)}


def test_what_a_trial_did_before_is_what_it_does_again() -> None:
    before = [
        *rows_of("recall", "rnn", 4, 0.5, 0.5),
        *rows_of("recall", "rnn", 9, 0.5),
        *rows_of("recall", "gru", 4, 0.5),
        *rows_of("copy", "rnn", 4, 0.5),
    ]
    assert [row for row in before if gap._same(row, Trial("recall", "rnn", (4, 6), 0))] == before[:1]


@pytest.mark.parametrize(
    ("name", "other", "this"),
    [("parameters", 2000, 1000), ("steps", 9, 2), ("batch", 8, 4), ("lr", 0.5, 0.02), ("first_gap", 5, 20)],
)
def test_trials_with_another_budget_are_not_mixed(tmp_path: Path, name: str, other: float, this: float) -> None:
    Results(asdict(options(**{name: other}).budget()), []).write(tmp_path / "gap.json")
    said = f"has trials with {name} {other}, but this run has {this}; name another file"
    with pytest.raises(InputError, match=re.escape(said)):
        Experiment(["adding"], options(), tmp_path / "gap.json")


def test_two_experiments_do_not_write_one_file(tmp_path: Path) -> None:
    """Each would lose what the other found."""
    experiment = gap.Experiment(
        ["order-2"], gap.GapOptions(gaps="10", cells="rnn", seeds=1), tmp_path / "gap.json"
    )
    with (
        holding(tmp_path / "gap.json", "another"),
        pytest.raises(InputError, match=r"gap\.json is what another experiment writes; expected another --out"),
    ):
        next(experiment.run())
    assert not list(tmp_path.iterdir())


def test_results_survive_being_written_and_read(tmp_path: Path) -> None:
    row = {
        "problem": "copy",
        "cell": "rnn",
        "gap": 5,
        "seed": 0,
        "error": 0.1,
        "chance": 1.0,
        "solved": False,
        "steps": 3,
    }
    Results({"steps": 3}, [row]).write(tmp_path / "gap.json")
    assert gap.read(tmp_path / "gap.json") == Results({"steps": 3}, [row])
    assert json.loads((tmp_path / "gap.json").read_text())["version"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_experiment_that_is_stopped_says_so_and_exits_as_in_a_shell(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    command = [sys.executable, "-m", "unrolled", "gap", "order-2", "adding", "--gaps", "10", "--steps", "100000"]
    command += ["--cells", "rnn", "--seeds", "1", "--jobs", "2", "--out", "gap.json"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        assert "order-2 rnn gap 10" in running.stderr.readline()  # the other is still being learned
        # A terminal's Ctrl-C reaches the workers, too.
        (os.killpg if number == signal.SIGINT else os.kill)(running.pid, number)
        said = running.communicate()[1]
    assert said == "Stopped; gap.json has what was done, and the same command goes on from it.\n"
    assert running.returncode == status and len(gap.read(tmp_path / "gap.json").rows) == 1


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """An experiment that is killed leaves nothing running behind."""
    command = [sys.executable, "-m", "unrolled", "gap", "order-2", "--gaps", "10,997,998,999", "--steps", "100000"]
    command += ["--cells", "rnn", "--seeds", "1", "--jobs", "3", "--out", str(tmp_path / "gap.json")]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert "order-2 rnn gap 10" in running.stderr.readline()  # the others are not learned within minutes
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    workers = [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
    assert len(workers) == 3, "as many as --jobs"
    ends = [os.pidfd_open(worker) for worker in workers]
    running.kill()
    running.wait()
    running.stderr.close()
    for end in ends:
        assert select.select([end], [], [], 60)[0], "a worker goes on without its parent"
        os.close(end)
