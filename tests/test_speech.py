"""The speech task: from a table of sounds to a model that hears the same however the sound is cut."""

import io
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import small
from tolerances import assert_close
from unrolled import examples, modelfile, settings
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.loop import train
from unrolled.memory import trained as probed
from unrolled.modelfile import ModelFile
from unrolled.models.speech import Convolutions, SpeechNetwork
from unrolled.recipe import TrainOptions
from unrolled.tasks.speech import ListenOptions, SpeechModel, SpeechOptions, SpeechTask, audio, tones, transcripts
from unrolled.tasks.speech.augment import AugmentOptions, augmented, mask
from unrolled.tasks.speech.data import Data
from unrolled.tasks.speech.filterbank import Bank, features
from unrolled.vocabulary import CharVocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = SpeechOptions(mels=20, hidden=16, layers=1, batch=4, rate=8000)
LIVELY = ListenOptions(partial=True)


def table(folder: Path, count: int = 12, rate: int = 8000) -> Path:
    """Dialled digits as WAV files with their transcripts."""
    folder.mkdir(exist_ok=True)
    rows = [transcripts.HEADER]
    for number in range(count):
        samples, text = tones.dial(np.random.default_rng(number))
        audio.write(folder / f"{number}.wav", audio.resample(samples, 8000, rate), rate)
        rows.append(f"{number}.wav\t{text}")
    path = folder / "transcripts.tsv"
    path.write_text("\n".join(rows) + "\n")
    return path


def fresh(task: SpeechTask, seed: int = 0) -> ModelFile:
    """A model file with random weights, wide enough that something is heard."""
    rng = np.random.default_rng(seed)
    shapes = task.architecture.shapes()
    tensors = {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}
    return task.describe(tensors, {"seed": task.seed})


@pytest.fixture
def task(tmp_path: Path) -> SpeechTask:
    return SpeechTask(SMALL, [table(tmp_path / "data")])


@pytest.fixture
def model(task: SpeechTask) -> SpeechModel:
    return SpeechModel(fresh(task))


def test_examples_of_more_symbols_than_steps_do_not_count(task: SpeechTask) -> None:
    torch.manual_seed(0)
    network, sizes = task.build().eval(), task.architecture
    frames = torch.randn(10 * sizes.stack, 3, sizes.mels)
    targets, lengths = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]), torch.tensor([2, 3, 1])
    steps = torch.tensor([10, 2, 7])
    loss, _ = network(frames, steps, targets, lengths)
    assert_close(loss, network(frames[:, ::2], steps[::2], targets[:, ::2], lengths[::2])[0])
    assert network(frames[:, 1:2], steps[1:2], targets[:, 1:2], lengths[1:2])[0] == 0


def test_what_is_probed_are_the_sounds_as_a_stream_hears_them(tmp_path: Path, model: SpeechModel) -> None:
    recordings = model.recordings([tmp_path / "data"])
    passages = probed.subject(model, [tmp_path / "data"]).passages()
    assert sorted(passages.sequences.tolist()) == list(range(12))
    for row, number in enumerate(passages.sequences.tolist()):
        sound = recordings.sound(number)
        heard = model.stream().feed(sound)  # all but the steps that the end of a sound still has
        assert int(passages.lengths[row]) == len(model.steps(sound)) >= len(heard)
        assert_close(passages.logits[: len(heard), row], torch.from_numpy(heard))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_the_parameters_are_those_of_the_model_file(tmp_path: Path, cell: str) -> None:
    task = SpeechTask(replace(SMALL, cell=cell, layers=2), [table(tmp_path / "data")])
    shapes = {name: tuple(value.shape) for name, value in task.build().state_dict().items()}
    assert shapes == task.architecture.shapes()


def test_a_batch_depends_on_the_step_and_the_seed_alone(tmp_path: Path, task: SpeechTask) -> None:
    again, other = (SpeechTask(SMALL, [tmp_path / "data"], seed) for seed in (0, 1))
    later = {step: again.batch(step) for step in (5, 3, 0, 4)}
    for step, expected in later.items():
        batch = task.batch(step)
        assert all(np.array_equal(batch[name], expected[name]) for name in expected)
    assert not any(np.array_equal(task.batch(step)["inputs"], other.batch(step)["inputs"]) for step in range(3))


def test_the_loss_is_that_of_each_example_alone(task: SpeechTask) -> None:
    torch.manual_seed(0)
    network = task.build().eval()
    batch = {name: torch.from_numpy(array) for name, array in task.batch(0).items()}
    total = 0.0
    for row in range(batch["lengths"].numel()):
        steps, symbols = int(batch["lengths"][row]), int(batch["target_lengths"][row])
        with torch.no_grad():
            logits, _ = network(batch["inputs"][: steps * task.options.stack, row : row + 1])
        total += torch.nn.functional.ctc_loss(
            logits.log_softmax(-1)[:, 0],
            batch["targets"][:symbols, row],
            torch.tensor([steps]),
            torch.tensor([symbols]),
            blank=task.architecture.symbols,
            reduction="sum",
        ).item()
    with torch.no_grad():
        loss, state = network(**batch)
    assert state == ()
    assert_close(loss, torch.tensor(total / int(batch["target_lengths"].sum()), dtype=torch.float64))


def test_padding_changes_no_loss(task: SpeechTask) -> None:
    network = task.build().eval()
    batch = {name: torch.from_numpy(array) for name, array in task.batch(0).items()}
    longer = batch | {"inputs": torch.cat([batch["inputs"], torch.randn_like(batch["inputs"])])}
    with torch.no_grad():
        assert_close(network(**longer)[0], network(**batch)[0])


def test_every_parameter_learns(task: SpeechTask) -> None:
    network = task.build()
    loss, _ = network(**{name: torch.from_numpy(array) for name, array in task.batch(0).items()})
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_the_file_has_the_model_that_was_trained(tmp_path: Path, task: SpeechTask) -> None:
    out = tmp_path / "model.safetensors"
    reports = list(train(task, TrainOptions(steps=40), out))
    assert reports[-1].best < reports[3].best
    model = SpeechModel(modelfile.read(out))
    network = SpeechNetwork(model.file.architecture)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in model.file.tensors.items()})
    (batch, _), *_ = task.held_out()
    with torch.no_grad():
        expected, _ = network.double()(torch.from_numpy(batch["inputs"]).double())
    frames = batch["inputs"].reshape(-1, task.options.stack, batch["inputs"].shape[1], task.options.mels)
    steps = frames.swapaxes(1, 2).reshape(len(frames), batch["inputs"].shape[1], -1)
    logits = model._network.run(steps, model._network.initial_state(steps.shape[1]))
    assert_close(torch.from_numpy(logits), expected)
    assert task.report(model).figures == {**model.evaluate().figures, "left_out": 0}


def test_the_held_out_sounds_are_found_again(tmp_path: Path, model: SpeechModel) -> None:
    figures = model.evaluate().figures
    assert figures["sounds"] == 1
    path = tmp_path / "data" / "3.wav"
    audio.write(path, np.zeros(9000, np.float32), 8000)
    with pytest.raises(InputError, match="not the sounds that the model was trained on; name a TSV"):
        model.evaluate()


def test_a_model_of_an_earlier_version_finds_its_held_out_sounds(model: SpeechModel, task: SpeechTask) -> None:
    """Settings that it was trained before do not keep it from being measured."""
    earlier = {name: value for name, value in model.file.training.items() if name != "augment_steps"}
    again = SpeechModel(replace(model.file, training=earlier)).recordings()
    assert again.texts == task._data.held_out.texts


def test_voices_change_little_by_little() -> None:
    options = AugmentOptions(pitch=0.2, tempo=0.1, vocal_tract=None, channel=3.0)
    half = options.scaled(0.5)
    assert (half.pitch, half.tempo, half.vocal_tract, half.channel) == (0.1, 0.05, 0.0, 1.5)
    assert half.noise == options.noise and half.masks == options.masks


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("size", [1, 333, 800, 20_000])
def test_any_cut_of_a_sound_gives_the_same_text(model: SpeechModel, beam: int, size: int) -> None:
    sound = tones.dial(np.random.default_rng(5))[0][:4000]
    options = ListenOptions(beam=beam)
    stream = model.listen(options)
    text = "".join(stream.feed(sound[begin : begin + size]) for begin in range(0, len(sound), size))
    assert text + stream.finish() == model.transcribe(sound, options) != ""


def test_pcm_is_heard_as_its_amplitudes_are(model: SpeechModel) -> None:
    sound = np.rint(tones.dial(np.random.default_rng(5))[0] * 32767).astype(np.int16)
    expected = model.transcribe(sound.astype(np.float32) / 32768)
    assert model.transcribe(sound) == expected != ""
    assert model.transcribe(sound.astype(np.int32) << 16) == expected


def test_a_partial_result_hears_the_newest_sample_and_changes_nothing(model: SpeechModel) -> None:
    sound = tones.dial(np.random.default_rng(5))[0]
    stream, certain = model.listen(), ""
    for begin in range(0, len(sound), 700):
        certain += stream.feed(sound[begin : begin + 700])
        assert certain + stream.partial() == model.transcribe(sound[: begin + 700])
    assert certain + stream.finish() == model.transcribe(sound)


def test_the_silence_after_a_sound_is_not_counted(model: SpeechModel) -> None:
    stream = model.listen()
    stream.feed(tones.dial(np.random.default_rng(5))[0][:4000])
    stream.finish()
    assert (stream.seconds, stream.fork().seconds) == (0.5, 0.5)


def test_what_a_stream_keeps_does_not_grow(model: SpeechModel) -> None:
    stream = model.listen()
    sound = tones.dial(np.random.default_rng(5))[0]
    for _ in range(15):
        stream.feed(sound)
        assert sum(array.nbytes for array in stream._stream.trace.values()) < 100_000
        assert len(stream._search.open()) <= 65
    assert stream.seconds == pytest.approx(15 * len(sound) / 8000)


def pcm(samples: np.ndarray) -> bytes:
    return bytes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


class Trickle(io.BytesIO):
    """A pipe that gives an odd number of bytes at a time."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(min(size or 0, 777))

    def peek(self, size: int = 0, /) -> bytes:
        return self.getvalue()[self.tell() :][:size]


def test_live_sound_becomes_what_a_file_would(model: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pcm(tones.dial(np.random.default_rng(5))[0])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Trickle(content)))
    outputs = list(model.run(["-"], LIVELY))
    final = [output.record for output in outputs if output.record["final"]]
    assert "".join(record["text"] for record in final) == model.transcribe(audio.from_pcm(content))
    assert any(not output.record["final"] for output in outputs)
    seconds = [output.record["seconds"] for output in outputs]
    assert seconds == sorted(seconds) and seconds[-1] == pytest.approx(len(content) / 16_000)


def test_files_are_heard_at_any_rate(tmp_path: Path, model: SpeechModel) -> None:
    paths = [str(tmp_path / "data" / f"{number}.wav") for number in (0, 1)]
    one, other = model.run(paths, ListenOptions())
    assert one.line == f"{paths[0]}: {one.record['text']}"
    assert other.record["text"] == model.transcribe(audio.read(Path(paths[1]), 8000))
    (alone,) = model.run(paths[:1], ListenOptions())
    assert alone.line == one.record["text"]
    assert alone.record["seconds"] == round(soundfile.info(paths[0]).duration, 3)


def test_files_are_heard_where_standard_input_is_closed(
    tmp_path: Path, model: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert len(list(model.run([str(tmp_path / "data" / "0.wav")], ListenOptions()))) == 1


def test_a_file_is_heard_on_standard_input(
    tmp_path: Path, model: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "0.wav"
    (expected,) = model.run([str(path)], ListenOptions())
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Trickle(path.read_bytes())))
    (found,) = model.run(["-"], ListenOptions())
    assert found.line == expected.line != ""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Trickle(path.read_bytes()[:1000])))
    with pytest.raises(InputError, match=r"^standard input is cut off"):
        list(model.run(["-"], ListenOptions()))


def test_a_table_is_no_sound_to_hear(tmp_path: Path, model: SpeechModel) -> None:
    for name in ("transcripts.tsv", str(tmp_path)):
        with pytest.raises(InputError, match="is no sound; `unrolled eval` measures on a table of transcripts"):
            list(model.run([name], ListenOptions()))


def test_nothing_to_hear_is_refused(model: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Trickle(b"")))
    with pytest.raises(
        InputError, match=r"^standard input is empty \(0 bytes\); expected a sound file or raw PCM"
    ):
        list(model.run(["-"], ListenOptions()))
    with pytest.raises(InputError, match=r"^samples: expected at least one"):
        model.transcribe(np.zeros(0, np.float32))


def test_a_stream_that_has_heard_nothing_has_no_text(model: SpeechModel) -> None:
    stream = model.listen()
    assert stream.partial() == stream.finish() == ""


def test_a_language_model_changes_what_is_heard(tmp_path: Path, model: SpeechModel) -> None:
    path = tmp_path / "text.safetensors"
    modelfile.write(path, small.text_file(vocabulary=CharVocabulary("\n0123456789")))
    sound = tones.dial(np.random.default_rng(5))[0]
    heavy = ListenOptions(lm=str(path), lm_weight=3.0)
    none = ListenOptions(lm=str(path), lm_weight=0.0)
    assert model.transcribe(sound, none) == model.transcribe(sound) != model.transcribe(sound, heavy)
    modelfile.write(path, small.text_file())
    with pytest.raises(InputError, match="the language model does not know all that the speech model says"):
        model.transcribe(sound, heavy)


def refused(options: SpeechOptions, path: Path) -> str:
    with pytest.raises(InputError) as error:
        SpeechTask(options, [path])
    return str(error.value)


def test_sound_of_impossible_loudness_is_refused_in_training_and_in_hearing(
    tmp_path: Path, model: SpeechModel
) -> None:
    path = table(tmp_path / "other")
    sound = np.zeros(4000, np.float32)
    sound[7] = 1e30
    soundfile.write(tmp_path / "other" / "4.wav", sound, 8000, subtype="FLOAT")
    assert "4.wav: sample 7 is 1e+30, expected" in (sentence := refused(SMALL, path))
    assert sentence.startswith(f"{path}, line 6: ")
    with pytest.raises(InputError, match=r"^samples: sample 7 is 1e\+30, expected"):
        model.transcribe(sound)


def test_a_rate_that_no_sound_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"rate .*less than 768001"):
        settings.fill([SpeechOptions], {"rate": 768_001})


def test_a_bad_sound_is_refused_with_its_row_or_left_out_and_counted(tmp_path: Path) -> None:
    path = table(tmp_path / "data")
    audio.write(tmp_path / "data" / "4.wav", np.zeros(0, np.float32), 8000)
    sentence = refused(SMALL, path)
    assert sentence.startswith(f"{path}, line 6: {tmp_path / 'data' / '4.wav'} is a sound file of 0 samples")
    assert "--skip-bad" in sentence
    task = SpeechTask(replace(SMALL, skip_bad=True), [path])
    assert task.settings()["left_out"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("0.wav\t12\n", r"line 1: found '0.wav\\t12', expected the heading"),
        ("file\ttext\n0.wav 12\n", "line 2: found 1 column, expected 2"),
        ("file\ttext\n0.wav\t\n", "line 2: the text is empty"),
        ("file\ttext\nnone.wav\t12\n", "line 2: .*none.wav does not exist"),
        ("file\ttext\n0.wav\t" + "12" * 300 + "\n", "line 2 .* seconds make .* steps, expected at least 600"),
        ("file\ttext\n", "there is no sound with a transcript"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = table(tmp_path / "data", 2)
    path.write_text(content)
    assert re.search(reason, refused(SMALL, path))


def test_a_sound_in_place_of_a_table_is_told_what_was_expected(tmp_path: Path) -> None:
    table(tmp_path / "data", 1)
    wrong = "byte 0x.. at offset [0-9]+ of it is not UTF-8, expected text in UTF-8"
    said = refused(SMALL, tmp_path / "data" / "0.wav")
    assert re.search(rf"0\.wav is not a TSV of transcripts: {wrong}\.", said)


def test_a_held_out_character_that_is_not_known_is_refused(tmp_path: Path, model: SpeechModel) -> None:
    path = table(tmp_path / "other", 3)
    path.write_text(path.read_text().replace("0.wav\t", "0.wav\tx"))
    for call in (
        lambda: model.evaluate([path]),
        lambda: SpeechTask(replace(SMALL, held_out=str(path)), [tmp_path / "data"]),
    ):
        with pytest.raises(InputError, match=r"transcripts.tsv, line 2 .*the character 'x' \(U\+0078\)"):
            call()


def test_characters_that_training_lacks_are_refused_where_the_program_divides(tmp_path: Path) -> None:
    path = table(tmp_path / "data")
    whole = transcripts.read([path], None, Refused())
    _, held_out = examples.divide(len(whole), SMALL.split, 0)
    row = int(held_out[0])
    path.write_text(path.read_text().replace(f"\n{row}.wav\t", f"\n{row}.wav\tx"))
    assert f"{path}, line {row + 2} " in (sentence := refused(SMALL, path))
    assert "the character 'x' (U+0078) is not one of" in sentence


def test_what_a_model_knows_may_be_held_out_though_it_was_not_in_training(tmp_path: Path) -> None:
    path = table(tmp_path / "data", 2)  # training lacks some of the digits
    assert "is not one of" in refused(SMALL, path)
    data = Data.read(SMALL, [path], 0, CharVocabulary("0123456789"))
    assert len(data.held_out) == 1


@pytest.mark.parametrize("held_out", [True, False])
def test_where_every_sound_is_left_out_the_first_reason_is_said(tmp_path: Path, held_out: bool) -> None:
    path = table(tmp_path / "data")
    other = table(tmp_path / "other", 2)
    other.write_text(f"{transcripts.HEADER}\n0.wav\t{'12' * 300}\n1.wav\t{'3' * 300}\n")
    options = replace(SMALL, skip_bad=True, held_out=str(other) if held_out else None)
    sentence = refused(options, path if held_out else other)
    assert sentence.startswith(f"{other}: no sound is left whose transcript can be used (the first was left out: ")
    assert f"{other}, line 2 " in sentence


def test_a_folder_without_one_table_is_refused(tmp_path: Path) -> None:
    assert "is a folder with 0 TSV files, expected one" in refused(SMALL, tmp_path)
    assert "does not exist; expected a TSV file" in refused(SMALL, tmp_path / "none.tsv")


def test_the_rate_is_the_lowest_of_the_files(tmp_path: Path) -> None:
    path = table(tmp_path / "data", 4)
    samples, _ = tones.dial(np.random.default_rng(0))
    audio.write(tmp_path / "data" / "1.wav", audio.resample(samples, 8000, 44_100), 44_100)
    task = SpeechTask(replace(SMALL, rate=None), [path])
    assert fresh(task).encoding["bank"]["rate"] == 8000


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("mean", [0.0], "mean is not a list of 20 numbers"),
        ("bank", {}, "the filter bank must have"),
        (
            "vocabulary",
            {"level": "char", "characters": "ab"},
            r"symbols, filters, frames a step and before it are \(2, 20, 3, 0\)",
        ),
    ],
)
def test_a_damaged_model_is_refused(model: SpeechModel, name: str, value: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        SpeechModel(replace(model.file, encoding={**model.file.encoding, name: value}))


def test_no_change_is_no_change() -> None:
    bank = Bank.usual(8000, 20, 3)
    sound, _ = tones.dial(np.random.default_rng(0))
    still = AugmentOptions(pitch=0, tempo=0, vocal_tract=0, noise=None, masks=0)
    frames = augmented(sound, bank, still, np.random.default_rng(0))
    louder = frames - features(sound, bank)
    assert frames.shape == features(sound, bank).shape
    assert np.ptp(np.median(louder, axis=0)) < 1  # but for the level


def test_each_change_does_what_it_says() -> None:
    bank, still = Bank.usual(8000, 40, 1), AugmentOptions(pitch=0, tempo=0, vocal_tract=0, noise=None, masks=0)
    sine = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)

    def peaks_and_steps(**options: Any) -> tuple[set[int], set[int]]:
        all_frames = [
            augmented(sine, bank, replace(still, **options), np.random.default_rng(s)) for s in range(12)
        ]
        return {int(f[:50].mean(0).argmax()) for f in all_frames}, {len(f) for f in all_frames}

    assert [len(found) > 1 for found in peaks_and_steps()] == [False, False]
    assert [len(found) > 1 for found in peaks_and_steps(pitch=0.3)] == [True, True]
    assert [len(found) > 1 for found in peaks_and_steps(tempo=0.3)] == [False, True]
    assert [len(found) > 1 for found in peaks_and_steps(vocal_tract=0.3)] == [True, False]
    assert [len(found) > 1 for found in peaks_and_steps(noise=30.0)] == [False, False]


def test_a_microphone_moves_each_band_by_the_same_at_every_step() -> None:
    bank, plain = Bank.usual(8000, 20, 3), AugmentOptions()
    sound, _ = tones.dial(np.random.default_rng(0))
    curves = []
    for seed in range(20):
        frames, other = (
            augmented(sound, bank, options.settled(voices=True), np.random.default_rng(seed))
            for options in (plain, replace(plain, channel=6.0))
        )
        moved = other - frames
        assert np.ptp(moved, axis=0).max() < 1e-4
        curves.append(moved[0])
    bands = 10 / np.log(10) * np.array(curves)  # dB
    assert 3 < bands.std() < 9 and np.abs(bands.mean(0)).max() < 6
    assert np.abs(np.diff(bands, axis=1)).max() < 10, "neighbouring bands move alike"


def test_masks_are_of_bounded_width() -> None:
    frames = np.ones((100, 40), np.float32)
    masked = mask(frames, 2, np.random.default_rng(0))
    assert (frames == 1).all()
    assert (masked == 0).any()
    assert (masked.max(axis=1) == 0).sum() <= 20 and (masked.max(axis=0) == 0).sum() <= 16


def test_keypad_tones_have_the_frequencies_of_the_keys() -> None:
    for seed in range(40):
        samples, text = tones.dial(np.random.default_rng(seed))
        if len(text) == 1:
            spectrum = np.abs(np.fft.rfft(samples))
            hertz = np.fft.rfftfreq(len(samples), 1 / 8000)
            low, high = tones.KEYS[text]
            for wanted in (low, high):
                band = (hertz > wanted * 0.95) & (hertz < wanted * 1.05)
                assert hertz[band][spectrum[band].argmax()] == pytest.approx(wanted, rel=0.03)


def test_the_tones_train_without_a_file() -> None:
    task = SpeechTask(SMALL)
    assert fresh(task).training["names"] == [transcripts.BUILTIN]
    assert task.batch(0)["inputs"].shape[1:] == (4, 20)
    assert (task.options.pitch, task.options.vocal_tract) == (0, 0)  # keys are told apart by pitch


@pytest.mark.parametrize("seconds", [0.0, 0.3, 2.0])
def test_convolutions_of_a_finished_model_are_those_of_training(seconds: float) -> None:
    file = small.speech_file(channels=3)
    model, network = SpeechModel(file), SpeechNetwork(file.architecture)
    network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in file.tensors.items()})
    network.eval()
    sound = np.random.default_rng(0).normal(0, 0.1, round(8000 * seconds)).astype(np.float32)
    frames = (features(sound, model.bank) + 8) / 2  # less the mean, over the deviation, of `small`
    with torch.no_grad():
        expected, _ = network(torch.from_numpy(frames)[:, None])
    stream = model.stream()
    found = [stream.feed(sound), stream.feed(np.zeros(model.bank.padding(len(sound)), np.float32))]
    assert_close(torch.from_numpy(np.concatenate(found)), expected[:, 0])


def test_convolutions_do_not_see_what_is_to_come() -> None:
    network = Convolutions(4).eval()
    frames = torch.randn(28 + 4 * 12, 2, 16, generator=torch.Generator().manual_seed(0))
    before = network(frames)
    frames[28 + 4 * 7 :] = 9.0
    after = network(frames)
    assert torch.equal(before[:7], after[:7]) and not torch.equal(before[7], after[7])
    first = network(frames[4:])
    assert_close(first, after[1:])


def test_convolutions_want_steps_of_four_frames_and_eight_filters_at_least() -> None:
    with pytest.raises(InputError, match="stack is 3, expected 4 for convolutions"):
        SpeechTask(SpeechOptions(channels=8))
    with pytest.raises(InputError, match="mels is 7, expected at least 8 for convolutions"):
        SpeechTask(SpeechOptions(channels=8, stack=4, mels=7))
