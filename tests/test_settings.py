"""Settings from several places: what is given wins, and what cannot be is refused in a sentence."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unrolled.errors import InputError
from unrolled.recipe import TrainOptions, check_one_of_two, learning_rate_factor, over
from unrolled.settings import fill, help_text, known, read_toml, setting
from unrolled.tasks.text import TextOptions
from unrolled.tasks.translate import TranslateOptions


@dataclass(frozen=True)
class Kitchen:
    """Settings of every type."""

    plates: int = setting(4, "Plates on the table.", at_least=1)
    salt: float = setting(0.5, "Salt in the soup.", at_least=0, below=1)
    heat: float | None = setting(None, "Heat of the stove.", above=0)
    soup: str = setting("leek", "What is cooked.", choices=("leek", "lentil", "onion"))
    lid: bool = setting(True, "Whether the lid is on.")
    spice: int | None = setting(None, "Grains of pepper.", default_help="a few")


@dataclass(frozen=True)
class Cellar:
    """Settings of another room."""

    bottles: int = setting(12, "Bottles on the shelf.")


def refusal(given: dict[str, Any], *kinds: type[Any]) -> str:
    with pytest.raises(InputError) as refused:
        fill([*kinds] or [Kitchen], given, "soup.toml")
    message = str(refused.value)
    assert message.startswith("soup.toml: ") and message.endswith(".") and "\n" not in message
    return message.removeprefix("soup.toml: ")


def test_what_is_absent_has_its_default() -> None:
    assert fill([Kitchen, Cellar], {}) == [Kitchen(4, 0.5, None, "leek", True, None), Cellar(12)]


def test_what_is_given_goes_where_it_belongs() -> None:
    given = {"bottles": 3, "plates": 2, "soup": "onion", "lid": False}
    assert fill([Kitchen, Cellar], given) == [Kitchen(plates=2, soup="onion", lid=False), Cellar(3)]


def test_the_defaults_of_the_programs_own_settings_are_within_their_limits() -> None:
    for kind in (TextOptions, TrainOptions):
        options = kind()
        given = {name: value for name, value in vars(options).items() if value is not None}
        assert fill([kind], given) == [options]


def test_what_is_given_several_times_is_one_text_and_what_is_absent_none() -> None:
    given = {"soup": ["leek", "onion,lentil"], "plates": 2, "salt": None, "fork": 1}
    assert known([Kitchen], given) == {"soup": "leek,onion,lentil", "plates": 2}


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "soup.toml"
    path.write_text("plates = 7\nsalt = 0.25\n")
    assert fill([Kitchen], read_toml(path) | {"plates": 9}) == [Kitchen(plates=9, salt=0.25)]


def test_a_file_may_write_names_as_the_command_line_does(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text('weight-decay = 0.5\ncheckpoint_minutes = 2\nlevel = "byte"\n')
    text, train = fill([TextOptions, TrainOptions], read_toml(path))
    assert (text.level, train.weight_decay, train.checkpoint_minutes) == ("byte", 0.5, 2)


def test_a_whole_number_may_stand_for_a_number() -> None:
    assert fill([Kitchen], {"salt": 0, "heat": 3}) == [Kitchen(salt=0, heat=3)]


def test_none_may_stand_where_it_is_a_value() -> None:
    assert fill([Kitchen], {"heat": None, "spice": None}) == [Kitchen()]


@pytest.mark.parametrize(("name", "nearest"), [("plate", "plates"), ("Salt", "salt"), ("botles", "bottles")])
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    said = f"unknown setting {name!r}; the nearest known one is '{nearest}'."
    assert refusal({name: 1}, Kitchen, Cellar) == said


def test_a_name_that_is_near_to_none_is_refused_with_all_where_they_are_few() -> None:
    few = "plates, salt, heat, soup, lid, spice"
    assert refusal({"xyzzy": 1}) == f"unknown setting 'xyzzy', expected one of {few}."
    assert refusal({"length": 1}, Cellar) == "unknown setting 'length', expected bottles."
    assert refusal({"xyzzy": 1}, TextOptions, TrainOptions) == "unknown setting 'xyzzy'."


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("plates", 2.0, "a whole number"),
        ("plates", "2", "a whole number"),
        ("plates", True, "a whole number"),
        ("plates", None, "a whole number"),
        ("salt", "much", "a number"),
        ("salt", True, "a number"),
        ("heat", [1.0], "a number"),
        ("soup", 3, "a text"),
        ("lid", 1, "true or false"),
        ("lid", {"on": True}, "true or false"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object, expected: str) -> None:
    assert refusal({name: value}) == f"{name} is {value!r}, expected {expected}."


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("plates", 0, "at least 1"),
        ("salt", -0.1, "at least 0"),
        ("salt", 1.0, "less than 1"),
        ("salt", float("nan"), "at least 0"),
        ("heat", 0, "more than 0"),
        ("heat", float("nan"), "more than 0"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: float, expected: str) -> None:
    assert refusal({name: value}) == f"{name} is {value!r}, expected {expected}."


@pytest.mark.parametrize(("name", "value"), [("plates", 1), ("salt", 0.0), ("salt", 0.999), ("heat", 1e-9)])
def test_a_value_at_the_edge_of_its_range_is_taken(name: str, value: float) -> None:
    assert getattr(fill([Kitchen], {name: value})[0], name) == value


def test_a_choice_that_is_none_is_refused_with_the_nearest() -> None:
    known = "one of leek, lentil, onion"
    assert refusal({"soup": "lentils"}) == f"soup is 'lentils', expected {known} (did you mean 'lentil'?)."
    assert refusal({"soup": "zzz"}) == f"soup is 'zzz', expected {known}."


@pytest.mark.parametrize("content", [b"plates 3", b"plates = ", b"plates = 1\nplates = 2", b'soup = "\xff"'])
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "soup.toml"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_toml(path)
    assert str(refused.value).startswith(f"{path} is not TOML: ") and str(refused.value).endswith(".")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"soup\.toml could not be read: No such file or directory\.$"):
        read_toml(tmp_path / "soup.toml")
    with pytest.raises(InputError, match=r"could not be read: Is a directory\.$"):
        read_toml(tmp_path)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_bytes(b"\xef\xbb\xbfsteps = 3\r\nlr = 0.5\r\n")
    assert read_toml(tmp_path / "train.toml") == {"steps": 3, "lr": 0.5}


def test_a_name_written_both_ways_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("weight-decay = 0.5\nweight_decay = 0.1\n")
    with pytest.raises(InputError, match=r"weight.decay"):
        read_toml(path)


@pytest.mark.parametrize(
    ("name", "default"), [("plates", "4"), ("salt", "0.5"), ("soup", "leek"), ("lid", "True"), ("spice", "a few")]
)
def test_help_shows_the_default(name: str, default: str) -> None:
    assert help_text(name, [Kitchen]).endswith(f". [dim]default {default}[/dim]")


@pytest.mark.parametrize("kind", [TextOptions, TranslateOptions])
def test_help_says_how_small_a_vocabulary_may_be(kind: type[Any]) -> None:
    assert "(bpe: at least 256, one a byte). " in help_text("vocab_size", [kind])


def test_help_shows_no_default_where_there_is_none() -> None:
    assert help_text("heat", [Kitchen]) == "Heat of the stove."


def test_the_learning_rate_warms_up_and_comes_down() -> None:
    factors = [learning_rate_factor(step / 1000) for step in range(1001)]
    top = factors.index(max(factors))
    assert 0 < factors[0] < 0.1
    assert 10 <= top <= 30 and factors[top] > 0.98
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert factors[-1] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("below", "given", "expected"),
    [
        ({"minutes": 8, "lr": 0.1}, {"steps": 5}, {"lr": 0.1, "steps": 5}),
        ({"steps": 5}, {"minutes": 8}, {"steps": 5, "minutes": 8}),
        ({"steps": 2000, "minutes": 8}, {"steps": 5}, {"steps": 5}),
        ({"steps": 2000, "minutes": 8}, {"lr": 0.1}, {"steps": 2000, "minutes": 8, "lr": 0.1}),
        ({"minutes": 8}, {"steps": 5, "minutes": 3}, {"steps": 5, "minutes": 3}),
    ],
)
def test_steps_that_win_take_the_place_of_minutes(
    below: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert over(below, given) == expected


def test_a_run_has_one_length_in_one_place() -> None:
    check_one_of_two({"steps": 5, "lr": 1}, "c.toml")
    check_one_of_two({"minutes": 5}, "c.toml")
    with pytest.raises(InputError, match=r"^c.toml: steps is 5 and minutes is 8, expected one of the two\.$"):
        check_one_of_two({"minutes": 8, "steps": 5}, "c.toml")


def test_a_split_and_what_is_held_out_exclude_each_other_in_one_place() -> None:
    with pytest.raises(
        InputError, match=r"^c\.toml: split is 0\.8 and held_out is 'a\.txt', expected one of the two"
    ):
        check_one_of_two({"split": 0.8, "held_out": "a.txt"}, "c.toml")
    assert over({"held_out": "a.txt", "seed": 3}, {"split": 0.8}) == {"seed": 3, "split": 0.8}
    assert over({"split": 0.8}, {"held_out": "a.txt"}) == {"split": 0.8, "held_out": "a.txt"}
