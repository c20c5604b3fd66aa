"""A model run as a stream: the trained model's numbers, the same bits wherever it is cut, states that leave."""

import copy
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from programs import python
from small import CELLS, KINDS, SOUND, inputs_for, label_file, model_of, text_file
from tolerances import assert_close
from unrolled import InputError, Snapshot, Stream, StreamPool
from unrolled.models.text import LanguageModel
from unrolled.network import Network
from unrolled.tasks.text import TextModel

pytestmark = pytest.mark.usefixtures("one_thread")

SYMBOLS = np.random.default_rng(1).integers(0, 10, 40)
ORDERS = (np.ascontiguousarray, np.asfortranarray)
every_cell = pytest.mark.parametrize("cell", CELLS)
every_kind = pytest.mark.parametrize("kind", list(KINDS))


@pytest.fixture
def stream() -> Stream:
    return Stream(model_of("text"))


@every_cell
@pytest.mark.parametrize("layers", [1, 3])
def test_a_stream_computes_the_trained_models_logits(isa: str, cell: str, layers: int) -> None:
    file = text_file(cell, layers)
    model = LanguageModel(file.architecture)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in file.tensors.items()})
    inputs = torch.from_numpy(SYMBOLS)[:, None]
    with torch.no_grad():
        expected, _ = model.eval().double()(inputs)
    actual = Stream(TextModel(file)).feed(SYMBOLS)
    assert actual.dtype == np.float32
    assert_close(torch.from_numpy(actual), expected[:, 0])


@every_kind
@every_cell
@settings(max_examples=5)
@given(st.sets(st.integers(1, 39)))
def test_cutting_anywhere_changes_no_bit(kind: str, cell: str, cuts: set[int]) -> None:
    model, inputs = model_of(kind, cell), inputs_for(kind, 40)
    whole, pieces, scale = Stream(model), Stream(model), len(inputs) // 40
    places = [0, *(cut * scale + cut % scale for cut in sorted(cuts)), len(inputs)]
    parts = [pieces.feed(inputs[begin:end]) for begin, end in pairwise(places)]
    assert np.array_equal(np.concatenate(parts), whole.feed(inputs))
    assert pieces.position == whole.position == len(inputs)
    assert pieces.snapshot().to_bytes() == whole.snapshot().to_bytes()


@every_kind
def test_reading_says_the_same_however_it_is_cut_and_leaves_the_same_state(kind: str) -> None:
    model, inputs = model_of(kind), inputs_for(kind, 40)
    whole, pieces, fed, both = (Stream(model) for _ in range(4))
    said = [text for begin in range(0, len(inputs), 7) for text in pieces.read(inputs[begin : begin + 7])]
    expected = whole.read(inputs)
    outputs, told = both.advance(inputs)
    assert np.array_equal(outputs, fed.feed(inputs)) and told == expected
    assert "".join(said) == "".join(expected) != ""
    assert kind in SOUND or len(set(expected)) > 1
    assert len({one.snapshot().to_bytes() for one in (whole, pieces, fed, both)}) == 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SOUND])
def test_stepping_is_feeding_one_by_one(kind: str) -> None:
    model, inputs = model_of(kind), inputs_for(kind, 40)
    stepped = Stream(model)
    assert np.array_equal([stepped.step(one) for one in inputs], Stream(model).feed(inputs))


def test_a_label_stream_is_the_labels_of_the_whole_sequence() -> None:
    model, inputs = model_of("members"), inputs_for("members", 40)
    assert np.array_equal(Stream(model).feed(inputs), model._labeller.logits(inputs)["causal"])


@every_cell
def test_rows_of_a_batch_are_streams(cell: str) -> None:
    file = text_file(cell)
    network, symbols = Network(file), SYMBOLS.reshape(8, 5)
    together = network.run(symbols, network.initial_state(5))
    for row in range(5):
        assert np.array_equal(together[:, row], Stream(TextModel(file)).feed(symbols[:, row]))


@every_kind
def test_what_follows_is_the_same_after_a_snapshot_a_file_and_another_process(tmp_path: Path, kind: str) -> None:
    model, inputs = model_of(kind), inputs_for(kind, 40)
    half = len(inputs) // 2 + 1
    stream = Stream(model)
    stream.read(inputs[:half])
    stream.snapshot().write(tmp_path / "state")
    other = Stream(model_of(kind))
    other.restore(Snapshot.read(tmp_path / "state"))
    assert other.position == half
    assert np.array_equal(other.feed(inputs[half:]), stream.feed(inputs[half:]))
    assert other.snapshot().to_bytes() == stream.snapshot().to_bytes()


def test_the_last_outputs_are_found_again_in_a_state() -> None:
    for kind in ("text", "members"):
        model = model_of(kind)
        states = model.causal.initial(3)
        inputs = np.concatenate([model.causal.front.checked(inputs_for(kind, 4, seed)) for seed in range(3)])
        outputs, _ = model.causal.run(inputs, np.array([4, 4, 4]), states)
        assert np.array_equal(model.causal.last(states), outputs[3::4])


def test_the_outputs_of_the_newest_step_can_be_had_again(stream: Stream) -> None:
    network = Network(text_file())
    assert np.array_equal(stream.outputs, network.last(network.initial_state(1))[0])
    newest = stream.feed(SYMBOLS)[-1]
    assert np.array_equal(stream.outputs, newest)
    assert stream.position == len(SYMBOLS)


@every_kind
def test_feeding_nothing_gives_no_outputs_and_changes_nothing(kind: str) -> None:
    stream, inputs = Stream(model_of(kind)), inputs_for(kind, 200)
    for _ in range(2):  # at the beginning and later
        before = stream.snapshot().to_bytes()
        assert stream.feed(inputs[:0]).shape == (0, len(stream.outputs))
        assert stream.snapshot().to_bytes() == before
        stream.feed(inputs)


@every_kind
def test_a_peek_shows_what_a_step_would_give_and_changes_nothing(kind: str) -> None:
    stream, inputs = Stream(model_of(kind)), inputs_for(kind, 30)
    stream.feed(inputs[:200])
    before, one = stream.snapshot().to_bytes(), inputs if kind in SOUND else inputs[-1]
    seen = stream.peek(one)
    assert stream.snapshot().to_bytes() == before
    assert np.array_equal(stream.step(one), seen)


@every_cell
def test_a_fork_goes_on_by_itself(cell: str) -> None:
    stream = Stream(model_of("text", cell))
    stream.feed(SYMBOLS[:10])
    alone, fork = stream.fork(), stream.fork()
    fork.feed([9] * 7)
    assert np.array_equal(stream.feed(SYMBOLS[10:]), alone.feed(SYMBOLS[10:]))
    assert fork.position == 17


@every_cell
def test_a_reset_forgets_everything(cell: str) -> None:
    stream = Stream(model_of("text", cell))
    fresh = stream.feed(SYMBOLS)
    stream.reset()
    assert stream.position == 0
    assert np.array_equal(stream.feed(SYMBOLS), fresh)


def test_a_snapshot_stays_as_it_was_when_the_stream_goes_on(stream: Stream) -> None:
    pool = StreamPool(model_of("text"), 1)
    snapshots = [stream.snapshot(), pool.snapshot(pool.open())]
    stream.feed(SYMBOLS)
    pool.feed([0], [SYMBOLS])
    for one in snapshots:
        assert one == Stream(model_of("text")).snapshot() != stream.snapshot()


def test_a_rewind_takes_calls_back(stream: Stream) -> None:
    stream.feed(SYMBOLS[:5])
    after = stream.feed(SYMBOLS[5:30])
    stream.step(SYMBOLS[30])
    stream.rewind(5)
    assert stream.position == 5
    assert np.array_equal(stream.feed(SYMBOLS[5:30]), after)
    stream.rewind(0)
    assert np.array_equal(stream.feed(SYMBOLS[:5]), Stream(model_of("text")).feed(SYMBOLS[:5]))


def test_a_rewind_forgets_what_came_after(stream: Stream) -> None:
    for symbol in SYMBOLS[:4]:
        stream.step(symbol)
    stream.rewind(2)
    stream.rewind(2)  # where it is
    with pytest.raises(InputError, match=r"position is 3, expected one that is kept: 0, 1\."):
        stream.rewind(3)


def test_of_another_state_there_is_nothing_to_rewind_to(stream: Stream) -> None:
    stream.feed(SYMBOLS[:5])
    snapshot = stream.snapshot()
    stream.step(SYMBOLS[5])
    for changed in (stream.reset, lambda: stream.restore(snapshot)):
        stream.step(SYMBOLS[6])
        changed()
        with pytest.raises(InputError, match=r"expected one that is kept: none\."):
            stream.rewind(6)


def test_feeding_nothing_takes_no_place_in_the_history() -> None:
    stream = Stream(model_of("text"), history=1)
    stream.step(3)
    stream.feed([])
    stream.rewind(0)
    assert stream.position == 0


def test_a_fork_has_a_history_of_its_own(stream: Stream) -> None:
    stream.step(1)
    fork = stream.fork()
    stream.step(2)
    fork.rewind(0)
    stream.rewind(1)
    with pytest.raises(InputError, match=r"expected one that is kept: none\."):
        fork.rewind(1)


def test_a_stream_and_its_fork_may_both_go_back_to_the_same_position(stream: Stream) -> None:
    expected = stream.fork().feed(SYMBOLS)
    stream.step(1)
    fork = stream.fork()
    for one in (stream, fork):
        one.rewind(0)
    assert np.array_equal(fork.feed(SYMBOLS), expected)
    assert np.array_equal(stream.feed(SYMBOLS), expected)


def test_the_history_of_rewind_is_bounded_and_told() -> None:
    stream = Stream(model_of("text"), history=2)
    for symbol in SYMBOLS[:6]:
        stream.step(symbol)
    with pytest.raises(InputError, match=r"position is 3, expected one that is kept: 4, 5\."):
        stream.rewind(3)
    assert stream.position == 6
    stream.rewind(4)
    assert stream.position == 4


def test_the_trace_is_what_the_layers_carry() -> None:
    stream = Stream(model_of("text"))
    assert not np.any(stream.trace["h"])
    stream.step(3)
    assert {name: array.shape for name, array in stream.trace.items()} == {"h": (2, 17), "c": (2, 17)}
    assert np.abs(stream.trace["h"]).max() < 1


def test_a_text_may_be_fed_as_text(stream: Stream) -> None:
    expected = stream.fork().feed([1, 2, 3])
    assert np.array_equal(stream.fork().feed(" ab"), expected)
    assert np.array_equal(stream.step(" "), expected[0])


def test_the_past_matters(stream: Stream) -> None:
    other = stream.fork()
    assert not np.array_equal(stream.feed([1, 5])[-1], other.feed([2, 5])[-1])


@pytest.mark.parametrize(
    ("kind", "inputs", "sentence"),
    [
        ("text", [10], "symbols: expected numbers from 0 to 9, got 10."),
        ("text", [-1], "symbols: expected numbers from 0 to 9, got -1."),
        ("text", [2**40], "symbols: expected numbers from 0 to 9"),
        ("text", [1.5], "symbols: expected whole numbers, got float64."),
        ("text", [None], "symbols: expected whole numbers, got object."),
        ("text", 3, "symbols: expected shape [T], got []."),
        ("text", [[1, 2]], "symbols: expected shape [T], got [1, 2]."),
        ("text", "xyz", "'x'"),
        ("numbers", [1.0, 2.0, 3.0], "inputs: expected shape [T, 3], got [3]."),
        ("numbers", [[1, 2, 3], [1, 2]], "inputs: expected shape [T, 3], got rows of different length."),
        ("numbers", [["a", "b", "c"]], "inputs: expected numbers"),
        ("words", "the man", "words: expected a list of texts, one for each word."),
        ("words", [1], "words: expected a list of texts, one for each word."),
        ("words", 5, "words: expected a list of texts, one for each word."),
        ("films", np.zeros((2, 8, 8, 3)), "frames: expected bytes (uint8), got float64."),
        ("films", np.zeros((2, 9, 8, 3), np.uint8), "inputs: expected shape [T, 8, 8, 3], got [2, 9, 8, 3]."),
        ("speech", [[0.1]], "samples: expected shape [N], got [1, 1]."),
        ("speech", ["a"], "samples: expected numbers"),
    ],
)
def test_what_is_no_input_is_refused_and_nothing_consumed(kind: str, inputs: Any, sentence: str) -> None:
    stream = Stream(model_of(kind))
    before = stream.snapshot().to_bytes()
    with pytest.raises(InputError) as refused:
        stream.feed(inputs)
    assert sentence in str(refused.value)
    assert stream.snapshot().to_bytes() == before


def test_a_batch_may_lie_in_memory_either_way() -> None:
    network = Network(text_file())
    symbols = SYMBOLS[:12].reshape(4, 3)
    by_steps, by_rows = (network.run(order(symbols), network.initial_state(3)) for order in ORDERS)
    assert np.array_equal(by_steps, by_rows)


def test_a_state_of_another_model_is_refused(stream: Stream) -> None:
    stream.feed(SYMBOLS)
    before = stream.snapshot()
    for other in (TextModel(text_file(seed=1)), model_of("speech")):
        with pytest.raises(InputError, match="belongs to a model of weights"):
            stream.restore(Stream(other).snapshot())
    with pytest.raises(InputError, match=r"the state has \['h'\], expected \['c', 'h'\]"):
        stream.restore(replace(before, arrays={"h": before.arrays["h"]}))
    with pytest.raises(InputError, match=r"the state's h is float32 \[1, 17\], expected float32 \[2, 17\]"):
        stream.restore(replace(before, arrays={**before.arrays, "h": before.arrays["h"][:1]}))
    assert stream.snapshot().to_bytes() == before.to_bytes()


def test_a_state_that_is_cut_off_or_changed_anywhere_is_refused(tmp_path: Path) -> None:
    stream = Stream(TextModel(text_file(layers=1, hidden=2)))
    stream.feed(SYMBOLS)
    whole = stream.snapshot().to_bytes()
    path = tmp_path / "state"
    for cut in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=str(path)):
            Snapshot.read(path)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        try:
            found = Snapshot.from_bytes(bytes(damaged))
        except InputError:
            continue
        with pytest.raises(InputError):  # its header says other names or sizes
            stream.restore(found)
    with pytest.raises(InputError, match="cannot be read"):
        Snapshot.read(tmp_path / "nowhere")


def test_a_model_that_reads_in_both_directions_is_refused_with_the_reason() -> None:
    from unrolled.tasks.caption.model import CaptionModel
    from unrolled.tasks.translate.model import TranslateModel

    with pytest.raises(InputError, match="bidirectional"):
        Stream(TranslateModel.__new__(TranslateModel))
    with pytest.raises(InputError, match="whole picture"):
        Stream(CaptionModel.__new__(CaptionModel))


def test_of_a_bidirectional_label_model_the_forward_part_is_the_stream() -> None:
    from unrolled.tasks.label.model import LabelModel

    model = LabelModel(label_file("numbers", bidirectional=True, penalty=0.0))
    inputs = inputs_for("numbers", 20)
    assert Stream(model).read(inputs) == model.label(inputs)


def test_a_change_of_event_costs_the_same_however_a_sequence_is_cut() -> None:
    from unrolled.tasks.label.model import LabelModel

    dear, free = (LabelModel(label_file("numbers", penalty=penalty)) for penalty in (0.2, 0.0))
    inputs, pieces = inputs_for("numbers", 60), Stream(dear)
    whole = Stream(dear).read(inputs)
    assert [event for row in inputs for event in pieces.read([row])] == whole != Stream(free).read(inputs)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_narrow_weights_are_near_and_a_stream_may_change_between_formats(weights: str) -> None:
    model, inputs = model_of("members"), inputs_for("members", 40)
    wide, narrow = Stream(model), Stream(model, weights=weights)
    expected, found = wide.feed(inputs), narrow.feed(inputs)
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).max() < np.abs(expected).max()
    again = Stream(model, weights=weights)
    assert np.array_equal([again.step(one) for one in inputs], found)
    wide.restore(narrow.snapshot())
    with pytest.raises(InputError, match="int4"):
        Stream(model, weights="int4")


def test_streams_run_without_torch(model_path: Path) -> None:
    program = """
import sys
import unrolled
model = unrolled.load(sys.argv[1])
assert len("".join(model.sample("abc", 20))) == 20
assert model.score("a cab fed").count == 8
assert unrolled.Stream(model).step(0).shape == (10,)
pool = unrolled.StreamPool(model, 2)
assert pool.step([pool.open()], [0]).shape == (1, 10)
print(sorted({"torch", "accelerate", "tokenizers", "typer", "rich"} & set(sys.modules)))
"""
    result = python(program, model_path)
    assert (result.stdout, result.stderr) == ("[]\n", "")


@pytest.mark.parametrize("text", ["ab", ""])
def test_a_text_of_several_symbols_is_no_step(text: str) -> None:
    stream, pool = Stream(model_of("text")), StreamPool(model_of("text"), 2)
    with pytest.raises(InputError, match=f"symbols: '{text}' is {len(text)} symbols, expected one"):
        stream.step(text)
    with pytest.raises(InputError, match=f"symbols: '{text}' is {len(text)} symbols, expected one"):
        pool.step([pool.open(), pool.open()], [text, "a"])
    assert stream.position == 0
    assert np.array_equal(stream.feed(["a", "b"]), Stream(model_of("text")).feed("ab"))


def test_a_copy_of_a_stream_goes_on_by_itself() -> None:
    stream, inputs = Stream(model_of("numbers")), inputs_for("numbers", 6)
    stream.feed(inputs[:3])
    for other in (copy.copy(stream), copy.deepcopy(stream)):
        assert np.array_equal(other.feed(inputs[3:]), stream.fork().feed(inputs[3:]))
    assert stream.position == 3
    with pytest.raises(TypeError, match=r"its snapshot\(\) can"):
        pickle.dumps(stream)
    assert pickle.loads(pickle.dumps(stream.snapshot())) == stream.snapshot() != other.snapshot()


@pytest.mark.parametrize("model", [None, "model.safetensors", Path("model.safetensors")])
def test_what_is_no_model_is_named(model: Any) -> None:
    sentence = f"model is a {type(model).__name__}, expected a model that unrolled.load opened"
    with pytest.raises(InputError, match=sentence):
        Stream(model)
    with pytest.raises(InputError, match=sentence):
        StreamPool(model, 2)


@pytest.mark.parametrize("history", [-1, 2.5, None])
def test_a_history_of_no_number_of_calls_is_refused(history: Any) -> None:
    with pytest.raises(InputError, match=f"history is {history}, expected a whole number of calls, 0 or more"):
        Stream(model_of("text"), history=history)


def test_a_snapshot_is_shown_by_its_shapes(stream: Stream) -> None:
    stream.feed(SYMBOLS[:3])
    shown = repr(stream.snapshot())
    assert shown.startswith("<Snapshot after 3 inputs: h [") and len(shown) < 200


def test_a_state_that_is_no_snapshot_is_refused(stream: Stream) -> None:
    snapshot: Any = stream.snapshot().to_bytes()
    with pytest.raises(InputError, match="the state is a bytes, expected a Snapshot"):
        stream.restore(snapshot)
    with pytest.raises(InputError, match="the state is a bytes, expected a Snapshot"):
        StreamPool(model_of("text"), 1).open(snapshot)


@pytest.mark.parametrize("kind", ["text", "numbers", "words", "films", "speech"])
def test_a_model_can_be_pickled_and_copied(kind: str) -> None:
    model, inputs = model_of(kind), inputs_for(kind, 5)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert np.array_equal(Stream(other).feed(inputs), Stream(model).feed(inputs))


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_text_model_can_be_pickled_and_copied(weights: str) -> None:
    model = TextModel(text_file(), weights)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert np.array_equal(Stream(other).feed(SYMBOLS), Stream(model).feed(SYMBOLS))
        assert other.score("a cab fed") == model.score("a cab fed")
