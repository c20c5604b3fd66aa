"""The training loop: what it learns, and that nothing that stops it changes what comes out."""

import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unrolled import checkpoint, modelfile
from unrolled.errors import InputError
from unrolled.loop import Diverged, Report, in_bfloat16, train
from unrolled.ops import dispatch
from unrolled.rates import quickest
from unrolled.recipe import TrainOptions, learning_rate_factor
from unrolled.resume import interrupted
from unrolled.run_files import check_out, checkpoint_path, log_path, previous_path
from unrolled.tasks.text import TextOptions, TextTask
from unrolled.tasks.translate import TranslateOptions, TranslateTask

pytestmark = pytest.mark.usefixtures("one_thread")  # these models are too small for two

SMALL = TextOptions(hidden=16, embedding=8, batch=4, chunk=8, dropout=0.1)
TINY = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--chunk", "8"]
TRAIN = [sys.executable, "-m", "unrolled", "train", "text"]
STEPS = 60  # of runs that are stopped
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["unrolled.loop"])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A text with something to learn: random words, each spelled the same every time."""
    words = random.Random(0).choices(["sky", "clouds", "french", "fluent", "grew"], k=2000)
    path = tmp_path / "text.txt"
    path.write_text(" ".join(words))
    return path


def start(text: Path, out: Path, resume: bool = False, **options: float | str) -> "list[Report]":
    """A whole run."""
    return list(train(TextTask(SMALL, [text]), TrainOptions(**options), out, resume))  # type: ignore[arg-type]


def run_alone(text: Path, out: Path, resume: bool, file_limit: int | None = None) -> None:
    """A run in a process of its own, with a checkpoint after every step."""
    torch.set_num_threads(1)
    if file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    start(text, out, resume, steps=STEPS, checkpoint_minutes=0.0)


def die_after(step: int, text: Path, out: Path, resume: bool) -> None:
    """A run that ends as if it were killed, a minute before its second checkpoint."""
    torch.set_num_threads(1)
    for report in train(TextTask(SMALL, [text]), TrainOptions(steps=40), out, resume):
        if report.step == step:
            os._exit(0)


def killed_after(step: int, text: Path, out: Path, resume: bool = False) -> None:
    process = FORKS.Process(target=die_after, args=(step, text, out, resume))
    process.start()
    process.join()
    assert process.exitcode == 0


def logged(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in log_path(out).read_text().splitlines()]


def test_a_resumed_run_has_checkpoints_as_often_as_before(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=STEPS, checkpoint_minutes=7.0), out)
    next(run)
    run.close()
    assert interrupted(out, "text", {}, []).settings["checkpoint_minutes"] == 7.0
    reports = start(text, out, resume=True, steps=STEPS, checkpoint_minutes=9.0)  # another is no conflict
    assert reports[-1].step == STEPS


def test_the_loss_falls_well_below_a_unigrams(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    reports = start(text, out, steps=300, lr=0.02)
    assert reports[0].loss == pytest.approx(np.log(15), rel=0.1)
    assert reports[-1].best < 0.6  # after a word's first letters the rest of it is certain
    assert modelfile.read(out).training["held_out_loss"] == reports[-1].best
    assert [entry["loss"] for entry in logged(out)] == [report.loss for report in reports]
    assert not checkpoint_path(out).exists()


def test_two_runs_of_one_seed_are_the_same_and_another_seed_is_not(text: Path, tmp_path: Path) -> None:
    runs = [[r.loss for r in start(text, tmp_path / name, steps=12)] for name in ("a", "b")]
    assert runs[0] == runs[1]
    assert runs[0] != [r.loss for r in start(text, tmp_path / "c", steps=12, seed=1)]


def test_the_state_goes_on_from_batch_to_batch_in_training_and_in_the_held_out_part(
    text: Path, tmp_path: Path
) -> None:
    def losses(batches: list[Any], carries: bool) -> list[float]:
        found: list[float] = []
        carried: dict[str, Any] = {}
        for batch in batches:
            loss, state = model(**{name: torch.from_numpy(one) for name, one in batch.items()}, **carried)
            carried = {"state": state} if carries else {}
            found.append(loss.item())
        return found

    task = TextTask(replace(SMALL, dropout=0.0), [text])
    reports = list(train(task, TrainOptions(steps=3, lr=1e-9), tmp_path / "model"))
    dropping = TextTask(replace(SMALL, dropout=0.5), [text])
    (alone,) = train(dropping, TrainOptions(steps=1, lr=1e-9), tmp_path / "dropping")
    assert alone.held_out == pytest.approx(reports[-1].held_out, rel=1e-5)  # where nothing is dropped
    torch.manual_seed(0)
    model = task.build()  # of the weights that such a rate hardly moves
    batches, (held_out, weights) = [task.batch(step) for step in range(3)], zip(*task.held_out(), strict=True)
    with torch.no_grad():
        assert [one.loss for one in reports] == pytest.approx(losses(batches, True), rel=1e-5)
        assert reports[-1].held_out == pytest.approx(np.average(losses(held_out, True), weights=weights), rel=1e-5)
        assert losses(batches, True) != pytest.approx(losses(batches, False), rel=1e-5)
        assert losses(held_out, True) != pytest.approx(losses(held_out, False), rel=1e-5)


def test_the_kept_model_is_the_one_that_did_best_on_the_held_out_part(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    held_out = [r.held_out for r in start(text, out, steps=40) if r.held_out is not None]
    assert len(held_out) == 10
    assert modelfile.read(out).training["held_out_loss"] == min(held_out)


def test_a_run_by_the_clock_ends_and_lets_the_rate_fall(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    reports = start(text, out, minutes=0.02)
    assert reports[-1].progress == 1
    assert logged(out)[-1]["lr"] < 0.2 * max(entry["lr"] for entry in logged(out))


def test_products_in_bfloat16_learn_as_well_and_leave_float32_weights(text: Path, tmp_path: Path) -> None:
    exact, near = (
        start(text, tmp_path / name, steps=100, precision=name)[-1].best for name in ("float32", "bfloat16")
    )
    if quickest("cpu") == torch.bfloat16:
        assert exact != near
    assert near == pytest.approx(exact, abs=0.1)
    assert all(value.dtype == np.float32 for value in modelfile.read(tmp_path / "bfloat16").tensors.values())


def test_where_bfloat16_is_slow_a_run_is_in_float32(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unrolled.loop.quickest", lambda device: torch.float32)
    exact, asked = (
        start(text, tmp_path / name, steps=10, precision=name)[-1].loss for name in ("float32", "bfloat16")
    )
    assert exact == asked


def test_a_torch_built_for_an_accelerator_that_is_not_here_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def built_for(check_available: bool = False) -> torch.device | None:
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr(torch.accelerator, "current_accelerator", built_for)
    monkeypatch.setattr(
        "unrolled.loop.quickest", lambda device: {"cpu": torch.float32, "cuda": torch.bfloat16}[device]
    )
    assert not in_bfloat16(TrainOptions(precision="bfloat16"))
    assert {row.device for row in dispatch.kernels()} == {"cpu"}


def test_a_log_that_was_cut_off_is_not_filled_up_with_zeros(text: Path, tmp_path: Path) -> None:
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=20), tmp_path / "cut")
    next(run)
    run.close()
    log_path(tmp_path / "cut").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"cut\.log\.jsonl, of the interrupted run, has 0 bytes, expected the \d+ of its"
    ):
        next(train(TextTask(SMALL, [text]), TrainOptions(steps=20), tmp_path / "cut", resume=True))
    assert not log_path(tmp_path / "cut").read_bytes()


def test_a_place_where_no_file_can_be_made_is_told(text: Path) -> None:
    with pytest.raises(InputError, match=r"^/proc/x\.log\.jsonl cannot be written: No such file or directory\.$"):
        next(train(TextTask(SMALL, [text]), TrainOptions(steps=20), Path("/proc/x")))


def test_a_checkpoint_of_another_task_is_told_by_the_names_of_both(text: Path, tmp_path: Path) -> None:
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=20), tmp_path / "cut")
    next(run)
    run.close()
    (tmp_path / "pairs").write_text("eins\tone\nzwei\ttwo\n" * 20)
    other = TranslateTask(TranslateOptions(hidden=8, embedding=4), [tmp_path / "pairs"])
    said = (
        r"cut\.checkpoint was written by `unrolled train text`, but this is `unrolled train translate`; expected"
    )
    with pytest.raises(InputError, match=said):
        next(train(other, TrainOptions(steps=20), tmp_path / "cut", resume=True))


def test_a_checkpoint_without_its_log_is_told(text: Path, tmp_path: Path) -> None:
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=20), tmp_path / "cut")
    next(run)
    run.close()
    log_path(tmp_path / "cut").unlink()
    with pytest.raises(InputError, match=r"cut\.log\.jsonl, of the interrupted run, is not there; move it with"):
        start(text, tmp_path / "cut", resume=True, steps=20)


def test_a_run_in_bfloat16_goes_on_to_the_same_losses(text: Path, tmp_path: Path) -> None:
    options = TrainOptions(steps=20, precision="bfloat16")
    start(text, tmp_path / "whole", steps=20, precision="bfloat16")
    run = train(TextTask(SMALL, [text]), options, tmp_path / "cut")
    for _ in range(9):
        next(run)
    run.close()
    with pytest.raises(InputError, match="precision 'bfloat16', but this run has precision 'float32'"):
        start(text, tmp_path / "cut", resume=True, steps=20)
    start(text, tmp_path / "cut", resume=True, steps=20, precision="bfloat16")
    assert log_path(tmp_path / "cut").read_bytes() == log_path(tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("stop", [1, 7, 39])
def test_a_run_that_was_closed_goes_on_to_the_same_losses(text: Path, tmp_path: Path, stop: int) -> None:
    start(text, tmp_path / "whole", steps=40)
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40), tmp_path / "cut")
    for _ in range(stop):
        next(run)
    run.close()
    torch.rand(3)  # whatever else draws random numbers in between
    start(text, tmp_path / "cut", resume=True, steps=40)
    assert log_path(tmp_path / "cut").read_bytes() == log_path(tmp_path / "whole").read_bytes()


def test_a_run_killed_before_its_second_checkpoint_goes_on_to_the_same_losses(text: Path, tmp_path: Path) -> None:
    start(text, tmp_path / "whole", steps=40)
    killed_after(1, text, tmp_path / "cut", resume=False)
    killed_after(9, text, tmp_path / "cut", resume=True)
    start(text, tmp_path / "cut", resume=True, steps=40)
    assert log_path(tmp_path / "cut").read_bytes() == log_path(tmp_path / "whole").read_bytes()
    ours, theirs = modelfile.read(tmp_path / "cut"), modelfile.read(tmp_path / "whole")
    assert ours.fingerprint() == theirs.fingerprint()


def test_a_resumed_run_goes_on_from_its_best_its_first_loss_and_its_time(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=20), out)
    for _ in range(5):
        next(run)
    run.close()
    saved, model = checkpoint.read(checkpoint_path(out)), out.read_bytes()

    def changed(**values: float) -> None:
        checkpoint.write(checkpoint_path(out), replace(saved, run=saved.run | values))

    changed(first_loss=1e-3)
    with pytest.raises(Diverged, match=r"it began at 0\.001"):
        start(text, out, resume=True, steps=20)
    changed(best=0.0, seconds=1000.0)
    reports = start(text, out, resume=True, steps=20)
    assert reports[0].seconds > 1000
    assert reports[-1].best == 0 and out.read_bytes() == model


def test_a_checkpoint_of_the_beginning_holds_nothing_that_a_new_run_would_discard(
    text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model.safetensors"
    with pytest.raises(Diverged):
        start(text, out, steps=40, lr=1e30)
    assert len(start(text, out, steps=2)) == 2
    assert not checkpoint_path(out).exists()


def test_the_model_that_was_there_is_kept_through_kills(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    start(text, out, steps=1)
    before = out.read_bytes()
    killed_after(9, text, out)  # after two models of its own
    killed_after(9, text, out, resume=True)
    start(text, out, resume=True, steps=40)
    assert previous_path(out).read_bytes() == before


def test_a_link_to_a_model_stays_one_and_the_model_that_was_there_is_kept(text: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "newest", tmp_path / "model.safetensors"
    start(text, model, steps=1)
    before = model.read_bytes()
    out.symlink_to(model.name)
    start(text, out, steps=2)
    assert out.is_symlink() and modelfile.read(model).training["steps_done"] == 2
    assert not previous_path(out).is_symlink() and previous_path(out).read_bytes() == before


def test_a_link_to_a_file_that_is_not_there_yet_is_written_through(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "newest"
    out.symlink_to("models/first")
    with pytest.raises(InputError, match=r"newest cannot be written: there is no folder .*/models\.$"):
        start(text, out, steps=1)
    (tmp_path / "models").mkdir()
    start(text, out, steps=1)
    assert out.is_symlink() and modelfile.read(tmp_path / "models" / "first").training["steps_done"] == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_terminated_run_saves_and_exits_as_in_a_shell(
    text: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    command = [*TRAIN, str(text), *TINY, "--steps", "200", "--out", "cut"]
    run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert run.stderr
    run.stderr.readline()  # the first held-out line: training is under way
    run.send_signal(number)
    assert "cut.checkpoint is saved, and the same command with --resume" in " ".join(run.stderr.read().split())
    assert run.wait() == status
    steps = [entry["step"] for entry in logged(tmp_path / "cut")]
    saved = checkpoint.read(checkpoint_path(tmp_path / "cut")).run
    assert steps == list(range(1, saved["steps_done"] + 1)) and len(steps) < 200


def test_a_signal_that_is_ignored_as_a_run_begins_does_not_stop_it(text: Path, tmp_path: Path) -> None:
    command = [*TRAIN, str(text), *TINY, "--steps", "200", "--out", "cut"]
    script = ["bash", "-c", 'trap "" HUP INT; exec "$@"', "bash", *command]
    run = subprocess.Popen(script, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert run.stderr
    run.stderr.readline()
    run.send_signal(signal.SIGHUP)
    run.send_signal(signal.SIGINT)
    assert "Stopped" not in run.stderr.read() and run.wait() == 0


def test_a_run_killed_at_random_moments_ends_with_the_same_losses(text: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    alone = FORKS.Process(target=run_alone, args=(text, whole, False))
    alone.start()
    alone.join()
    chance = random.Random(0)
    partial = checkpoint_path(killed).with_name(f".{checkpoint_path(killed).name}.partial")
    kills = inside_a_write = 0
    for attempt in itertools.count():
        process = FORKS.Process(target=run_alone, args=(text, killed, checkpoint_path(killed).exists()))
        process.start()
        done = log_path(killed).stat().st_size if log_path(killed).exists() else 0
        target = done + chance.randrange(20, 800)
        while process.is_alive():
            process.join(timeout=0.0005)
            grown = log_path(killed).exists() and log_path(killed).stat().st_size > target
            if grown and (attempt % 2 or partial.exists()):
                assert process.pid
                os.kill(process.pid, signal.SIGKILL)
                break
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        inside_a_write += partial.exists()
    assert kills >= 5
    assert inside_a_write >= 2
    assert log_path(killed).read_bytes() == log_path(whole).read_bytes()
    ours, theirs = modelfile.read(killed), modelfile.read(whole)
    assert ours.fingerprint() == theirs.fingerprint()


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=STEPS, checkpoint_minutes=0.0), out)
    for _ in range(3):
        next(run)
    run.close()
    before = checkpoint_path(out).read_bytes()
    process = FORKS.Process(target=full_disk, args=(text, out, len(before) // 2))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert checkpoint_path(out).read_bytes() == before
    assert not list(tmp_path.glob(".*partial"))


def full_disk(text: Path, out: Path, limit: int) -> None:
    with pytest.raises(InputError, match=r"checkpoint could not be written: File too large"):
        run_alone(text, out, True, limit)


@pytest.mark.parametrize("log", ["", '{"step": 1, "loss": 2.5}\n'], ids=["no log", "the log of an earlier run"])
def test_a_run_whose_first_checkpoint_does_not_fit_the_disk_changes_no_file(
    text: Path, tmp_path: Path, log: str
) -> None:
    if log:
        log_path(tmp_path / "m").write_text(log)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    process = FORKS.Process(target=full_from_the_start, args=(text, tmp_path / "m"))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def full_from_the_start(text: Path, out: Path) -> None:
    torch.set_num_threads(1)
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=1), out)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
    with pytest.raises(InputError, match=r"m\.checkpoint could not be written: File too large\.$"):
        next(run)


def test_a_log_that_cannot_grow_is_said_to_be(text: Path, tmp_path: Path) -> None:
    process = FORKS.Process(target=full_log, args=(text, tmp_path / "m"))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert checkpoint_path(tmp_path / "m").exists()


def full_log(text: Path, out: Path) -> None:
    torch.set_num_threads(1)
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=200), out)
    next(run)
    limit = log_path(out).stat().st_size + 100  # but a model's file is larger
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with pytest.raises(InputError, match=r"m\.log\.jsonl could not be written: File too large\.$"):
        list(run)


def test_divergence_stops_the_run_and_keeps_the_last_good_checkpoint(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40, lr=1e30, checkpoint_minutes=0.0), out)
    with pytest.raises(Diverged, match=r"diverged at step \d+: the loss is .* try a lower lr"):
        list(run)
    saved = torch.cat([t.flatten() for t in checkpoint_tensors(out)])
    assert torch.isfinite(saved).all()


def checkpoint_tensors(out: Path) -> list[torch.Tensor]:
    return list(checkpoint.read(checkpoint_path(out)).part("model").values())


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"steps": 50}, {"seed": 3}])
def test_resuming_with_other_settings_is_refused_by_name(
    text: Path, tmp_path: Path, change: dict[str, float]
) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40), out)
    next(run)
    run.close()
    with pytest.raises(InputError, match=f"was written with {next(iter(change))} "):
        start(text, out, resume=True, **({"steps": 40} | change))


def test_resuming_on_another_text_is_refused(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40), out)
    next(run)
    run.close()
    text.write_text(text.read_text() + "!")
    with pytest.raises(InputError, match="was written with data "):
        start(text, out, resume=True, steps=40)


def test_resuming_where_nothing_was_interrupted_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no interrupted run to resume"):
        start(text, tmp_path / "model.safetensors", resume=True, steps=40)


def test_a_new_run_does_not_silently_discard_an_interrupted_one(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40), out)
    next(run)
    run.close()
    with pytest.raises(InputError, match=r"holds an interrupted run \(step 1\)"):
        start(text, out, steps=40)


def test_a_checkpoint_cut_short_is_refused(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40), out)
    next(run)
    run.close()
    content = checkpoint_path(out).read_bytes()
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        checkpoint_path(out).write_bytes(content[:size])
        with pytest.raises(InputError, match="is damaged or not a checkpoint"):
            start(text, out, resume=True, steps=40)


def test_the_rate_warms_up_and_falls_to_almost_nothing() -> None:
    factors = [learning_rate_factor(step / 1000) for step in range(1001)]
    assert factors[0] < 0.1
    assert max(factors) == pytest.approx(1.0, abs=0.01)
    assert factors.index(max(factors)) < 50
    assert factors[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("content", [b"my notes\n", b"", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_model_is_not_written_over(text: Path, tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "notes"
    out.write_bytes(content)
    with pytest.raises(InputError, match=r"notes is there already and is not a model written by `unrolled train`"):
        start(text, out, steps=1)
    assert out.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "text.txt"}


def test_a_checkpoint_is_no_model(text: Path, tmp_path: Path) -> None:
    run = train(TextTask(SMALL, [text]), TrainOptions(steps=40), tmp_path / "cut")
    next(run)
    run.close()
    with pytest.raises(InputError, match=r"cut\.checkpoint is there already and is not a model"):
        start(text, checkpoint_path(tmp_path / "cut"), steps=1)


@pytest.mark.parametrize("written", ["text.txt", "text.txt.log.jsonl", "text.txt.previous", "text.txt.checkpoint"])
def test_a_run_does_not_write_over_its_data(text: Path, tmp_path: Path, written: str) -> None:
    (tmp_path / "linked").symlink_to(text.rename(tmp_path / written))
    before = (tmp_path / written).read_bytes()
    task = TextTask(SMALL, [tmp_path / written])
    with pytest.raises(InputError, match=rf"{written} is DATA, and the run would write over it; expected another"):
        train(task, TrainOptions(steps=1), tmp_path / "text.txt", paths=[tmp_path / "linked"])
    assert (tmp_path / written).read_bytes() == before


def test_a_model_takes_the_place_of_a_model_of_an_older_version(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    start(text, out, steps=1)
    older = out.read_bytes().replace(b'\\"version\\": 2', b'\\"version\\": 1')
    out.write_bytes(older)
    start(text, out, steps=1)
    assert previous_path(out).read_bytes() == older != out.read_bytes()


def test_a_name_that_leaves_no_room_for_the_files_beside_it_is_refused(text: Path, tmp_path: Path) -> None:
    most = os.pathconf(tmp_path, "PC_NAME_MAX") - len("..checkpoint.partial")
    check_out(tmp_path / ("m" * most), [text])
    said = f"m cannot be written: its name has {most + 1} bytes, expected at most {most}, because the files beside"
    with pytest.raises(InputError, match=said):
        check_out(tmp_path / ("ä" * (most // 2) + "m" * (most % 2 + 1)), [text])


def test_a_second_run_for_the_same_model_is_refused_while_the_first_goes_on(text: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "m", TrainOptions(steps=3)
    first = train(TextTask(SMALL, [text]), options, out)
    next(first)
    for resume in (False, True):
        with pytest.raises(InputError, match=r"m is what another process trains at this moment"):
            next(train(TextTask(SMALL, [text]), options, out, resume))
    assert [report.step for report in first] == [2, 3]
    assert [json.loads(line)["step"] for line in log_path(out).read_text().splitlines()] == [1, 2, 3]
    assert [report.step for report in train(TextTask(SMALL, [text]), options, out)] == [1, 2, 3]


def test_a_folder_that_is_missing_is_named(text: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nodir/m cannot be written: there is no folder .*/nodir\.$"):
        start(text, tmp_path / "nodir" / "m", steps=1)


def test_steps_on_the_command_line_win_over_the_minutes_of_a_file(text: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("minutes = 600\n")
    command = [*TRAIN, str(text), *TINY, "--config", "c.toml", "--steps", "2", "--out", "m"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    training = modelfile.read(tmp_path / "m").training
    assert (training["minutes"], training["steps"], training["steps_done"]) == (None, 2, 2)


@pytest.mark.parametrize(
    ("content", "options", "source"),
    [("steps = 1\nminutes = 2\n", [], "c.toml"), ("", ["--steps", "1", "--minutes", "2"], "command line")],
)
def test_steps_and_minutes_in_one_place_are_refused(
    text: Path, tmp_path: Path, content: str, options: list[str], source: str
) -> None:
    (tmp_path / "c.toml").write_text(content)
    command = [*TRAIN, str(text), "--config", "c.toml", *options, "--out", "m"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    said = f"unrolled: {source}: steps is 1 and minutes is {2.0 if options else 2}, expected one of the two.\n"
    assert (done.returncode, done.stderr) == (2, said)
