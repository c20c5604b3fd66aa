"""The forecast task: its data, its linear map, the torch model and the engine's twin of it, scores, commands."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.io import savemat

from small import forecast_file, random
from tolerances import assert_close
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.models.forecast import ForecastNetwork
from unrolled.recipe import TrainOptions
from unrolled.start import Start
from unrolled.tasks.forecast import ForecastModel, ForecastOptions, ForecastTask, delayed, scores
from unrolled.tasks.forecast.lags import RIDGE, Lags, fitted

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("error::RuntimeWarning")]

NAN = float("nan")


def table(path: Path, rows: int = 60, heading: str = "x,y,who", gap: float = 0.0) -> Path:
    """Numbers x and y, some of them missing, and three sequences that take turns."""
    rng = np.random.default_rng(7)
    lines = [heading]
    for step in range(rows):
        x, y = (
            "" if rng.random() < gap else f"{number:.4f}"
            for number in (math.sin(step / 5) + rng.normal(0, 0.1), 50 + 10 * rng.normal())
        )
        lines.append(f"{x},{y},{'abc'[step % 3]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def task_of(*paths: Path, **options: Any) -> ForecastTask:
    return ForecastTask(ForecastOptions(**{"hidden": 9, "batch": 4, **options}), paths, seed=1)


def untrained(task: ForecastTask) -> tuple[ForecastNetwork, ForecastModel]:
    """The network with random weights, and the finished model with the same."""
    network = task.build()
    assert isinstance(network, ForecastNetwork)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    return network.eval(), ForecastModel(task.describe(tensors, {**asdict(TrainOptions()), "seed": 1}))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "lstm-layer_norm"])
@pytest.mark.parametrize("ahead", [0, 2])
def test_the_engine_says_what_torch_says(tmp_path: Path, cell: str, ahead: int) -> None:
    target = {"target": "y"} if not ahead else {}
    data = table(tmp_path / "a.csv", gap=0.2)
    task = task_of(data, sequence="who", missing="hold", cell=cell, layers=2, ahead=ahead, **target)
    network, model = untrained(task)
    assert {name: tuple(one.shape) for name, one in network.state_dict().items()} == task.architecture.shapes()
    assert bool(task.architecture.lags) == bool(ahead)
    for batch, _ in task.held_out():
        lengths = torch.from_numpy(batch["lengths"])
        with torch.no_grad():
            expected = network.quantiles(torch.from_numpy(batch["inputs"]), lengths)
        for row, one in enumerate(sorted(task.data.held_out, key=lambda one: len(one.inputs))):
            released = [model._scale.released(part[: len(one.inputs), row].numpy()) for part in expected]
            found = np.stack(model.forecast(one.inputs))
            assert (found[1] <= found[0]).all() and (found[0] <= found[2]).all()
            assert_close(torch.from_numpy(found), torch.from_numpy(np.stack(released).astype(np.float32)))


def test_the_loss_counts_only_targets_that_are_known(tmp_path: Path) -> None:
    network, _ = untrained(task := task_of(table(tmp_path / "a.csv"), sequence="who"))
    ((batch, _),) = task.held_out()
    tensors = {name: torch.from_numpy(one) for name, one in batch.items()}
    tensors["targets"][3:] = NAN
    with torch.no_grad():
        quantiles = network.quantiles(tensors["inputs"], tensors["lengths"])
        (loss, _) = network(**tensors)
    error = tensors["targets"][:3] - quantiles[:, :3]
    shares = torch.tensor([0.5, 0.1, 0.9]).view(-1, 1, 1, 1)
    pinball = torch.where(error > 0, shares * error, (shares - 1) * error).sum(0)
    assert_close(loss, pinball.mean())


# The linear map


def rows_of(x: NDArray[Any], lags: int) -> NDArray[np.float64]:
    """The last `lags` numbers at each step, oldest first, zeros before the beginning; and 1."""
    whole = np.concatenate([np.zeros(lags - 1), x])
    return np.stack([[*whole[step : step + lags], 1.0] for step in range(len(x))])


def noise_of_order_two(steps: int) -> NDArray[np.float32]:
    rng, x = np.random.default_rng(0), np.zeros(steps)
    for step in range(2, steps):
        x[step] = 0.5 * x[step - 1] - 0.7 * x[step - 2] + rng.normal()
    return x[:, None].astype(np.float32)


def of_next(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([x[1:], np.full_like(x[:1], NAN)])


def test_the_map_is_that_of_ridge_regression_over_what_is_known() -> None:
    x = noise_of_order_two(600)
    y = of_next(x)
    y[::7] = NAN
    found = fitted([(x[:400], y[:400]), (x[400:], y[400:])])
    lags = found.weight.shape[1]
    assert lags == 4  # the fewest that hold two
    known = ~np.isnan(y[:, 0])
    a = np.concatenate([rows_of(x[:400, 0], lags), rows_of(x[400:, 0], lags)])[known]
    b = y[known, 0].astype(np.float64)
    ridge = np.diag([*[RIDGE * len(b)] * lags, 0])
    expected = np.linalg.solve(a.T @ a + ridge, a.T @ b)
    assert np.allclose([*found.weight[0], found.bias[0]], expected, atol=1e-4)
    assert np.allclose(found.weight[0, -2:], [-0.7, 0.5], atol=0.1)
    assert np.allclose(found.deviation, np.sqrt(np.mean((a @ expected - b) ** 2)), rtol=1e-3)


def test_a_series_with_a_long_period_needs_many_lags() -> None:
    week = np.random.default_rng(4).normal(size=100)
    x = np.tile(week, 15)[:, None].astype(np.float32)
    found = fitted([(x, of_next(x))])
    assert found.weight.shape[1] >= 100 and found.deviation < 0.3  # though the first period tells nothing


def test_what_has_little_to_learn_from_is_fitted_too() -> None:
    short = [(np.ones((2, 2), np.float32), np.array([[1, NAN], [NAN, NAN]], np.float32))] * 3
    found = fitted(short)
    assert found.weight.shape == (2, 1)
    assert all(np.isfinite(one).all() for one in found) and (found.deviation > 0).all()


@given(cuts=st.sets(st.integers(0, 30)), lags=st.sampled_from([1, 5, 48]))
def test_cutting_a_sequence_changes_no_bit_of_the_map(cuts: set[int], lags: int) -> None:
    one = Lags(random(2, lags, seed=1), random(2, seed=2))
    numbers = random(30, 2, seed=3)
    before, begin, found = np.zeros((1, lags, 2), np.float32), 0, []
    for end in sorted(cuts | {30}):
        found.append(one.run(numbers[None, begin:end], before)[0])
        begin = end
    assert np.array_equal(np.concatenate(found), one.whole(numbers))


# What is read and what is forecast


def test_targets_are_the_numbers_that_come_later(tmp_path: Path) -> None:
    data = table(tmp_path / "a.csv")
    task = task_of(data, target="y", ahead=3, sequence="who")
    (one,) = task.data.held_out
    assert task.data.plan.columns == ("x", "y") and one.targets.shape == (20, 1)
    assert np.array_equal(one.targets[:-3, 0], one.inputs[3:, 1]) and np.isnan(one.targets[-3:]).all()
    assert task_of(data, ignore="who").data.plan.targets == ("x", "y")


def test_with_ahead_0_the_target_is_not_read_and_may_be_missing(tmp_path: Path) -> None:
    task = task_of(table(tmp_path / "a.csv"), target="y", ahead=0, sequence="who")
    assert [one.inputs.shape[1] for one in task.data.train] == [1, 1]
    _, model = untrained(task)
    (tmp_path / "new.csv").write_text("z,x\n1,2\n3,4\n")
    (new,) = model.read([tmp_path / "new.csv"], Refused(), known=False)
    assert new.inputs.tolist() == [[2], [4]] and np.isnan(new.targets).all()
    with pytest.raises(InputError, match=r"new\.csv has no column 'who'"):
        model.evaluate([tmp_path / "new.csv"])
    with pytest.raises(InputError, match=r"new\.csv: expected steps whose number to forecast is known"):
        model.measure([new])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": "z"}, "the column 'z' of --target is not there, expected some of x, y"),
        ({"target": "who"}, "the column 'who' of --target is not there, expected some of x, y"),
        ({"target": "who", "sequence": None, "category": "who"}, "'who' of --target has names, not numbers"),
        ({"ahead": 0}, "with --ahead 0 what is forecast is not read, and nothing else is there to read"),
        ({"ahead": 20}, "nothing is left to train on, expected steps with a number to forecast 20 steps later"),
        ({"sequence": None, "ignore": "who", "ahead": 10**30}, "nothing is left to train on"),
    ],
)
def test_what_cannot_be_forecast_is_refused(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        task_of(table(tmp_path / "a.csv"), **{"sequence": "who", **options})


def test_the_end_of_a_single_sequence_is_held_out_and_nothing_of_it_is_trained_on(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(50, dtype=np.float32)[:, None])
    data = task_of(tmp_path / "a.npy", ahead=3, split=0.8).data
    (train_on,), (held,) = data.train, data.held_out
    assert train_on.inputs.max() == 39 and np.nanmax(train_on.targets) == 39
    assert len(held.inputs) == 50  # so that what came before is known
    assert held.targets[~np.isnan(held.targets)].tolist() == [*range(40, 50)]


def test_sequences_with_nothing_to_forecast_do_not_take_part_in_the_division(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,who\n" + "1,short\n" * 5 + "".join(f"{step},long\n" for step in range(50)))
    task = task_of(tmp_path / "a.csv", ahead=5, sequence="who")
    assert [len(one.inputs) for one in (*task.data.train, *task.data.held_out)] == [45, 50]
    _, model = untrained(task)
    assert model.evaluate().figures["steps"] == 5


def test_other_data_may_be_held_out(tmp_path: Path) -> None:
    other = table(tmp_path / "b.csv", rows=30)
    task = task_of(table(tmp_path / "a.csv"), sequence="who", held_out=str(other))
    assert len(task.data.train) == 3 and [len(one.inputs) for one in task.data.held_out] == [10, 10, 10]
    _, model = untrained(task)
    assert model.evaluate().figures["steps"] == 27


X = random(4, 20, 2)


@pytest.mark.parametrize(
    ("inputs", "targets", "names", "known"),
    [
        (X[0], X[0, :, 0], ["target"], 20),
        (X[0], X[0], ["target 0", "target 1"], 20),
        (X, X[..., 0], ["target"], 80),
        (X, X, ["target 0", "target 1"], 80),
        (X, X[:, -1, 0], ["target"], 4),
        (X, X[:, -1], ["target 0", "target 1"], 4),
        (X, np.where(X > 0, X, NAN)[..., 0], ["target"], int((X[..., 0] > 0).sum())),
    ],
)
def test_arrays_have_targets_of_their_own(
    tmp_path: Path, inputs: Any, targets: Any, names: list[str], known: int
) -> None:
    np.savez(tmp_path / "a.npz", inputs=inputs, targets=targets)
    np.save(tmp_path / "b.npy", inputs)
    np.save(tmp_path / "b.targets.npy", targets)
    both = [task_of(tmp_path / name, split=0.5).data for name in ("a.npz", "b.npy")]
    for data in both:
        assert data.plan.ahead == 0 and list(data.plan.targets) == names
        parts = [*data.train, *data.held_out]
        assert all(one.inputs.shape[1] == 2 for one in parts)
        assert sum(int((~np.isnan(one.targets)).any(1).sum()) for one in parts) == known
    assert np.array_equal(both[0].train[0].targets, both[1].train[0].targets, equal_nan=True)


def cells(entries: list[NDArray[Any]]) -> NDArray[Any]:
    found = np.empty(len(entries), object)
    found[:] = entries
    return found


def test_matlab_files_may_have_targets(tmp_path: Path) -> None:
    lengths = range(10, 14)
    whole = [one[:length] for one, length in zip(X, lengths, strict=True)]
    savemat(tmp_path / "a.mat", {"S": cells(whole), "Y": cells([one[:, :1] for one in whole])})
    data = task_of(tmp_path / "a.mat").data
    assert data.plan.targets == ("target",) and data.plan.ahead == 0
    for one in (*data.train, *data.held_out):
        assert np.array_equal(one.inputs[:, :1], one.targets)
    savemat(tmp_path / "b.mat", {"S": cells(whole)})
    data = task_of(tmp_path / "b.mat", target="1").data
    assert data.plan.targets == ("1",) and data.plan.ahead == 1 and data.plan.columns == ("0", "1")


@pytest.mark.parametrize(
    ("arrays", "options", "reason"),
    [
        ({"targets": np.full((4, 20), np.inf)}, {}, "sequence 1, step 0: target 0 is infinite, expected a finite"),
        ({"targets": X[:3, :, 0]}, {}, "has 4 sequences and targets for 3, expected as many"),
        ({"targets": np.full((4, 20), "a")}, {}, "targets are <U1, expected numbers"),
        ({"targets": X}, {"target": "0"}, "there are targets beside the inputs, expected no --target"),
        ({}, {"target": "2"}, "the column '2' of --target is not there, expected some of 0, 1"),
        ({"inputs": np.where(X > 3, X, NAN)}, {}, "nan, expected a finite number; training with --missing hold"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    np.savez(tmp_path / "a.npz", **{"inputs": X, **arrays})
    with pytest.raises(InputError, match=reason):
        task_of(tmp_path / "a.npz", **options)


def test_words_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text("1\tthe\t_\tDET\n\n")
    with pytest.raises(InputError, match=r"a\.conllu has words, expected tables or arrays of numbers"):
        task_of(tmp_path / "a.conllu")


def test_a_run_from_a_model_reads_new_data_as_it_is_told(tmp_path: Path) -> None:
    _, model = untrained(task_of(table(tmp_path / "a.csv"), sequence="who"))
    data = table(tmp_path / "b.csv", gap=0.2, heading="x,y,name")
    options = ForecastOptions(hidden=9, sequence="name", missing="hold")
    task = ForecastTask(options, [data], start=Start(model, "m.safetensors", "0" * 64))
    assert len(task.data.train) == 2 and np.isnan(task.data.train[0].inputs).any()
    plan = model.plan
    assert task.data.plan == replace(plan, layout=replace(plan.layout, sequence="name", missing="hold"))


# What comes out


def test_scores_are_those_that_one_counts_by_hand() -> None:
    true = np.array([[1, NAN, NAN], [2, 4, NAN], [3, 8, NAN], [NAN, NAN, NAN]])
    said = np.array([[1, 0, 0], [4, 5, 0], [2, 5, 0], [9, 9, 0]], np.float64)
    found = scores.score(true, said, said - 1, said + 1)
    evaluation = scores.evaluation({"model": found}, {"model": "this"}, ["a", "b", "c"], 1)
    assert evaluation.figures["model"] == {
        "a": {"mae": 1, "rmse": pytest.approx(math.sqrt(5 / 3)), "within": pytest.approx(2 / 3)},
        "b": {"mae": 2, "rmse": pytest.approx(math.sqrt(5)), "within": 0.5},
        "c": {"mae": None, "rmse": None, "within": None},
    }
    assert evaluation.tables[1].rows == [["this", "2", "2.23607", "50.0 %"]]
    assert evaluation.tables[2].rows == [["this", "-", "-", ""]]


def test_steps_of_which_only_some_targets_are_known_are_shown(tmp_path: Path) -> None:
    rows = [f"{step},{step if step % 2 else ''}" for step in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["x,y", *rows]) + "\n")
    task = task_of(tmp_path / "a.csv", missing="hold", split=0.95)
    _, model = untrained(task)
    shown = model.show(task.data.held_out[0]).splitlines()
    assert shown[5].split()[:3] == ["for", "step", "y"]
    assert [line.split()[:2] for line in shown[6:]] == [["57", "57"], ["58", "-"], ["59", "59"]]


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_is_very_far_out_is_forecast_finitely(ahead: int) -> None:
    stream = ForecastModel(forecast_file(ahead=ahead)).stream()
    wild = np.array([[3e38, -3e38, 3e38], [0, 0, 0]], np.float32)
    assert np.isfinite(stream.feed(wild)).all() and np.isfinite(stream.feed(random(9, 3))).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"columns": None}, "'columns'"),
        ({"targets": ["7", "0"]}, "the target '7' is not among its columns"),
        ({"targets": ["0"]}, "forecasts 1, but the architecture has 3 and 2"),
        ({"ahead": -1}, "ahead is -1, expected a number of steps"),
        ({"mean": [1.0]}, "mean is .*, expected 3 finite numbers"),
        ({"target_deviation": "x"}, "could not convert string"),
        ({"layout": {}}, "'ignore'"),
    ],
)
def test_a_damaged_description_is_refused(change: dict[str, Any], reason: str) -> None:
    file = forecast_file()
    encoding = {name: one for name, one in (file.encoding | change).items() if one is not None}
    with pytest.raises(InputError, match=reason):
        ForecastModel(replace(file, encoding=encoding))


def test_the_built_in_series_solves_its_equation() -> None:
    rng = np.random.default_rng(3)
    (found,) = delayed.courses(1, 60, rng)
    past = np.random.default_rng(3).uniform(1.0, 1.4, 1)[0]
    finer = 80  # Euler's steps of a step, each of two slopes
    lag, x = 17 * finer, [past] * (17 * finer + 1)
    for _ in range((300 + 60) * finer):
        slopes = [0.2 * x[n - lag] / (1 + x[n - lag] ** 10) for n in (len(x) - 1, len(x))]
        first = slopes[0] - 0.1 * x[-1]
        second = slopes[1] - 0.1 * (x[-1] + first / finer)
        x.append(x[-1] + (first + second) / 2 / finer)
    assert np.abs(found - x[lag + 300 * finer :: finer][:60]).max() < 0.01
    one, other = delayed.series(), delayed.series()
    assert all(np.array_equal(a.inputs, b.inputs) for a, b in zip(one, other, strict=True))
    assert all(x.inputs.min() > 0.2 and x.inputs.max() < 1.5 for x in one)


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_stream_gives_its_newest_forecast_once_more_also_from_a_state(ahead: int) -> None:
    model = ForecastModel(forecast_file(ahead=ahead))
    stream, other = model.stream(), model.stream()
    newest = stream.feed(random(7, 3))[-1]
    assert np.array_equal(stream.outputs, newest)
    other.restore(stream.snapshot())
    assert np.array_equal(other.outputs, newest)
