"""Files of sequences: what is read from each kind, and the one sentence about each that cannot be used."""

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.io
from pyarrow import parquet

from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.sequences import Series, categories, fingerprint, read
from unrolled.sequences.layout import Layout

CSV = "x,y,label\n1,2,walk\n3,4.5,walk\n5,6,run\n"


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def one(path: Path, layout: Layout = Layout(), labelled: bool = True) -> Series:  # noqa: B008
    (found,) = read([path], layout, Refused(False), labelled)[1]
    return found


def test_a_table_is_a_sequence(tmp_path: Path) -> None:
    found = one(written(tmp_path / "a.csv", CSV))
    assert found.inputs.tolist() == [[1, 2], [3, 4.5], [5, 6]]
    assert found.inputs.dtype == np.float32
    assert found.labels == ["walk", "walk", "run"]
    assert found.features == ("x", "y")


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 3, 5], "y": [2.0, 4.5, 6.0], "label": ["walk", "walk", "run"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    expected, found = one(written(tmp_path / "a.csv", CSV)), one(tmp_path / "a.parquet")
    assert np.array_equal(found.inputs, expected.inputs) and found.labels == expected.labels


def test_a_column_tells_sequences_apart_and_columns_may_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "who,x,note,event\n1,1,q,a\n2,2,w,b\n1,3,e,b\n")
    layout = Layout(label="event", sequence="who", ignore=("note",))
    _, found = read([path], layout, Refused(False))
    assert [series.name for series in found] == [f"{path}, 1", f"{path}, 2"]
    assert [series.inputs.tolist() for series in found] == [[[1], [3]], [[2]]]
    assert [series.labels for series in found] == [["a", "b"], ["b"]]


def test_columns_are_found_by_name_in_every_file(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", CSV)
    written(tmp_path / "b.csv", "label,y,x\nrun,2,1\n")
    _, found = read([tmp_path], Layout(), Refused(False))
    assert found[1].inputs.tolist() == [[1, 2]]


def test_arrays_come_with_their_labels(tmp_path: Path) -> None:
    inputs, labels = np.arange(6.0).reshape(3, 2), np.array(["a", "b", "b"])
    np.savez(tmp_path / "a.npz", inputs=inputs, labels=labels)
    np.save(tmp_path / "b.npy", inputs)
    np.save(tmp_path / "b.labels.npy", np.array([0, 1, 1]))
    _, found = read([tmp_path], Layout(), Refused(False))
    assert [series.labels for series in found] == [["a", "b", "b"], ["0", "1", "1"]]
    assert all(np.array_equal(series.inputs, inputs) for series in found)


def test_one_array_may_hold_many_sequences(tmp_path: Path) -> None:
    inputs = np.arange(24.0).reshape(4, 3, 2)
    np.savez(tmp_path / "a.npz", inputs=inputs, labels=np.arange(12).reshape(4, 3))
    _, found = read([tmp_path / "a.npz"], Layout(), Refused(False))
    assert [one.name for one in found] == [f"{tmp_path / 'a.npz'}, sequence {number}" for number in (1, 2, 3, 4)]
    assert np.array_equal(found[2].inputs, inputs[2]) and found[2].labels == ["6", "7", "8"]


def test_a_sequence_may_have_one_event_at_its_end(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=np.zeros((3, 5, 1)), labels=["up", "down", "up"])
    _, found = read([tmp_path / "a.npz"], Layout(), Refused(False))
    assert [list(one.labels or ()) for one in found] == [[None] * 4 + [event] for event in ("up", "down", "up")]
    np.savez(tmp_path / "a.npz", inputs=np.zeros((3, 5, 1)), labels=["up", "down"])
    with pytest.raises(InputError, match="has 3 sequences and labels for 2, expected as many"):
        read([tmp_path / "a.npz"], Layout(), Refused(False))


def test_a_matlab_file_has_a_cell_a_sequence(tmp_path: Path) -> None:
    cells = {name: np.empty((1, 2), object) for name in ("S", "Y")}
    for place, count in enumerate((3, 4)):
        cells["S"][0, place] = np.full((count, 5), place, float)
        cells["Y"][0, place] = np.arange(count)[None]
    scipy.io.savemat(tmp_path / "a.mat", cells)
    _, found = read([tmp_path / "a.mat"], Layout(), Refused(False))
    assert [series.inputs.shape for series in found] == [(3, 5), (4, 5)]
    assert found[1].labels == ["0", "1", "2", "3"]


SENTENCES = (
    "# text = a b\n1-2\tab\t_\t_\t_\t_\t_\t_\t_\t_\n1\ta\t_\tDET\t_\t_\t_\t_\t_\t_\n"
    "2\tb\t_\tNOUN\t_\t_\t_\t_\t_\t_\n\n"
    "1\tc\t_\tVERB\t_\t_\t_\t_\t_\t_\n1.1\td\t_\tX\t_\t_\t_\t_\t_\t_\n"
)


def test_words_have_their_upos(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.conllu.gz", "wt", encoding="utf-8") as file:
        file.write(SENTENCES)
    (tmp_path / "b.conllu").write_bytes(SENTENCES.replace("\n", "\r\n").encode("utf-8-sig"))
    for path in (written(tmp_path / "a.conllu", SENTENCES), tmp_path / "a.conllu.gz", tmp_path / "b.conllu"):
        kind, found = read([path], Layout(), Refused(False))
        assert kind == "words"
        assert [(series.inputs, series.labels) for series in found] == [
            (["a", "b"], ["DET", "NOUN"]),
            (["c"], ["VERB"]),
        ]
        assert found[1].name == f"{path}, line 6"


def test_a_sentence_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_bytes((LINE.format("DET") + "\n").encode() * 5000 + b"1\tStra\xdfe")
    with pytest.raises(
        InputError, match=r"a\.conllu, line 10001: byte 0xDF at offset 6 of it is not UTF-8, expected"
    ):
        read([tmp_path / "a.conllu"], Layout(), Refused(False))


def test_events_may_be_missing_where_they_are_to_be_found(tmp_path: Path) -> None:
    assert one(written(tmp_path / "a.csv", "x,y\n1,2\n"), labelled=False).labels is None
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    assert one(tmp_path / "a.npy", labelled=False).labels is None


def numpy_file(**arrays: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return make


def text_file(name: str, text: str) -> Callable[[Path], Path]:
    return lambda folder: written(folder / name, text)


LINE = "1\ta\t_\t{}\t_\t_\t_\t_\t_\t_\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (text_file("a.csv", "x,y\n1,2\n"), "a.csv has no column 'label', expected it among x, y; --label names"),
        (text_file("a.csv", "label\nrun\n"), "a.csv has no column of numbers beside label"),
        (
            text_file("a.csv", "x,label\n1,a\nfast,a\n"),
            "a.csv, line 3, column 'x': 'fast', expected a finite number; --ignore x leaves out the column",
        ),
        (text_file("a.csv", "x,label\n1,a\n,a\n"), "a.csv, line 3, column 'x': nothing, expected a finite number"),
        (text_file("a.csv", "x,label\n1,a\n2\n"), "a.csv, line 3: 1 column, expected 2 as in the heading"),
        (text_file("a.csv", ""), "a.csv has no rows, expected at least one"),
        (text_file("a.csv", "x,label\n"), "a.csv has no rows, expected at least one"),
        (text_file("a.parquet", "nonsense"), "a.parquet is not a table that can be read"),
        (text_file("a.npz", "nonsense"), "a.npz is not a NumPy file that can be read"),
        (text_file("a.mat", "nonsense"), "a.mat is not a MATLAB file that can be read"),
        (text_file("a.txt", "x"), "a.txt is of an unknown kind; expected a name ending in .csv"),
        (lambda folder: folder / "none.csv", "none.csv does not exist"),
        (lambda folder: folder, "has no file of sequences"),
        (numpy_file(labels=[1]), "a.npz has no array 'inputs', expected it among labels"),
        (numpy_file(inputs=np.zeros((2, 1)), labels=[1]), "a.npz: labels are [1], expected one for each of the 2"),
        (numpy_file(inputs=np.zeros(2), labels=[1, 2]), "a.npz: inputs are float64 [2], expected numbers"),
        (numpy_file(inputs=np.full((2, 1), np.nan), labels=[1, 2]), "a.npz, step 0, feature 0: nan, expected"),
        (numpy_file(inputs=np.zeros((2, 1)), labels=[0.5, 1]), "a.npz: labels are float64, expected texts"),
        (text_file("a.conllu", "1 a DET\n"), "a.conllu, line 1: 1 column, expected 10"),
        (text_file("a.conllu", "\n" + LINE.format("_")), "a.conllu, line 2: the word 'a' has no UPOS tag"),
        (text_file("a.conllu.gz", "plain"), "a.conllu.gz cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, make: Callable[[Path], Path], reason: str
) -> None:
    with pytest.raises(InputError) as refused:
        read([make(tmp_path)], Layout(), Refused(False))
    assert reason in str(refused.value)


def test_a_pipe_is_refused_for_it_cannot_be_read_twice(tmp_path: Path) -> None:
    """A second opening would wait for ever for somebody who writes."""
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv is not a regular file; expected one"):
        one(tmp_path / "a.csv")


def test_bad_sequences_are_left_out_and_counted_where_that_is_asked_for(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", CSV)
    written(tmp_path / "b.csv", "x,y,label\n1,slow,run\n")
    written(tmp_path / "c.csv", "x,label\n1,run\n")
    refused = Refused(True)
    _, found = read([tmp_path], Layout(), refused)
    assert len(found) == 1
    assert ["b.csv" in refused.reasons[0], "c.csv" in refused.reasons[1]] == [True, True]


def test_sequences_of_other_widths_and_kinds_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=np.zeros((2, 1)), labels=[1, 2])
    np.savez(tmp_path / "b.npz", inputs=np.zeros((2, 3)), labels=[1, 2])
    with pytest.raises(InputError, match=r"b\.npz has 3 numbers a step, expected 1"):
        read([tmp_path], Layout(), Refused(False))
    words = written(tmp_path / "c.conllu", SENTENCES)
    with pytest.raises(
        InputError, match=r"a\.npz has numbers and .*c\.conllu has words; expected sequences of one kind"
    ):
        read([tmp_path / "a.npz", words], Layout(), Refused(False))


def test_the_fingerprint_tells_any_change() -> None:
    series = [Series("a", np.zeros((2, 1), np.float32), ["x", "y"])]
    others = [
        [Series("a", np.ones((2, 1), np.float32), ["x", "y"])],
        [Series("a", np.zeros((2, 1), np.float32), ["x", "x"])],
        [*series, *series],
    ]
    assert len({fingerprint(one) for one in [series, *others]}) == 4
    assert fingerprint(series) == fingerprint([Series("b", np.zeros((2, 1), np.float32), ["x", "y"])])


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("x,label\n1,a\n\n2,müde\n", "line 4: byte 0xFC at offset 16"),
        ("x,größe,label\n1,2,a\n", "line 1: byte 0xF6 at offset 4"),
        ("x,label,note\n1,a,ü\n", "line 2: byte 0xFC at offset 17"),
    ],
)
def test_a_table_that_is_not_utf_8_is_refused_with_its_place(tmp_path: Path, content: str, place: str) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=rf"a\.csv, {place} is not UTF-8, expected text in UTF-8"):
        one(tmp_path / "a.csv", Layout(ignore=("note",) if "note" in content else ()))


@pytest.mark.parametrize("encoding", ["UTF-16-LE", "UTF-16-BE", "UTF-32-LE", "UTF-32-BE"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz"])
def test_a_table_in_wide_characters_is_refused_as_such(tmp_path: Path, encoding: str, name: str) -> None:
    content = "\ufeffx\tlabel\r\n1\ta\r\n2\tb\r\n".encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    way = f"iconv -f {encoding[:6]} -t UTF-8 makes it of this, and spreadsheets save it as CSV UTF-8"
    with pytest.raises(
        InputError, match=rf"{name}: it begins with the byte-order mark of {encoding[:6]}, .*; {way}"
    ):
        one(tmp_path / name, Layout())


def test_events_and_names_of_sequences_stay_as_they_are_written(tmp_path: Path) -> None:
    for labels in (["01", "1"], ["true", "false"], ["1", "2"], ["1.0", "2"], ["2020-01-01", "NA"], [" a ", "b"]):
        path = written(tmp_path / "a.csv", "x,label,who\n" + "".join(f"1,{label},007\n" for label in labels))
        found = one(path, Layout(sequence="who"))
        assert found.labels == [label.strip() for label in labels] and found.name == f"{path}, 007"
    rows = "x,label,who\n1,1,1\n" + "1,2,\n" + "1,1,1\n"
    assert one(written(tmp_path / "a.csv", rows), Layout(ignore=("who",))).labels == ["1", "2", "1"]


def test_names_in_a_column_stay_as_they_are_written_and_come_in_order(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / name, "\ufeffmode,x,label\n" + "".join(f"{mode},1,a\n" for mode in modes))
        for name, modes in (("a.csv", ("10", "007")), ("b.csv", ("9", " idle ", "007")))
    ]
    names = categories(paths, ["mode"])
    assert names == {"mode": ["007", "9", "10", "idle"]}
    assert one(paths[0], Layout(categories=names)).inputs.tolist() == [[0, 0, 1, 0, 1], [1, 0, 0, 0, 1]]
    written(paths[0], "mode,x,label\n9,1,a\nNA,2,b\n,3,b\n")
    found = one(paths[0], Layout(categories=names, missing="hold"))
    np.testing.assert_array_equal(found.inputs, [[0, 1, 0, 0, 1], [np.nan] * 4 + [2], [np.nan] * 4 + [3]])


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([1.0, 2.5]), ["1", "2.5"]),
        (pa.array([" a", "b "]), ["a", "b"]),
        (pa.array([b"a", b"b"]), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_events_of_parquet_are_what_a_person_would_write(tmp_path: Path, values: Any, labels: list[str]) -> None:
    parquet.write_table(pa.table({"x": [1, 2], "label": values, "who": [1.0, 1.0]}), tmp_path / "a.parquet")
    found = one(tmp_path / "a.parquet", Layout(sequence="who"))
    assert found.labels == labels and found.name == f"{tmp_path / 'a.parquet'}, 1"


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "x,x,label\n1,2,a\n")
    columns = [pa.array([1]), pa.array([2]), pa.array(["a"])]
    parquet.write_table(pa.Table.from_arrays(columns, ["x", "x", "label"]), tmp_path / "b.parquet")
    for name in ("a.csv", "b.parquet"):
        with pytest.raises(InputError, match=rf"{name} has 2 columns 'x', expected each name once"):
            one(tmp_path / name)


@pytest.mark.parametrize("content", ["0.5,-1\n2,3\n", "2,2\n2,3\n", "0.5,-1\n", "1.5\n2\n"])
def test_a_table_without_a_heading_does_not_lose_its_first_row_unsaid(tmp_path: Path, content: str) -> None:
    with pytest.raises(
        InputError, match=r"a\.csv begins with a row of numbers, expected a heading with the names"
    ):
        read([written(tmp_path / "a.csv", content)], Layout(), Refused(), labelled=False)


@pytest.mark.parametrize("heading", ["0,1", "1,2", "1,label", "x,2"])
def test_columns_may_be_named_by_their_numbers(tmp_path: Path, heading: str) -> None:
    path = written(tmp_path / "a.csv", f"{heading}\n7,8\n9,9\n")
    _, found = read([path], Layout(), Refused(), labelled=False)
    assert [len(series.inputs) for series in found] == [2]


def test_a_row_of_no_sequence_is_refused_or_left_out(tmp_path: Path) -> None:
    path, layout = written(tmp_path / "a.csv", "who,x,label\na,1,u\n,2,v\na,3,u\n ,4,v\n"), Layout(sequence="who")
    with pytest.raises(
        InputError, match=r"a\.csv, line 3, column 'who': nothing, expected the sequence that the row"
    ):
        one(path, layout)
    _, (found,) = read([path], layout, refused := Refused(True))
    assert found.inputs.tolist() == [[1], [3]] and len(refused.reasons) == 1


def test_a_table_without_rows_is_counted_where_it_is_left_out(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", CSV)
    written(tmp_path / "b.csv", "x,y,label\n")
    written(tmp_path / "c.csv", "\n")
    parquet.write_table(pa.table({"x": pa.array([], pa.float32())}), tmp_path / "d.parquet")
    _, found = read([tmp_path], Layout(), refused := Refused(True))
    assert len(found) == 1
    names = [f"{tmp_path / name} has no rows, expected at least one" for name in ("b.csv", "c.csv", "d.parquet")]
    assert refused.reasons == names


def test_the_line_of_an_error_is_that_of_the_file(tmp_path: Path) -> None:
    rows = 'x,note,label\n\n1,"a\nb",u\n\n\nfast,c,u\n'
    path = written(tmp_path / "a.csv", rows)
    with pytest.raises(InputError, match=r"a\.csv, line 7, column 'x': 'fast', expected a finite number"):
        one(path, Layout(ignore=("note",)))
    written(path, rows.replace("fast,c,u", "fast"))
    with pytest.raises(InputError, match=r"a\.csv, line 7: 1 column, expected 3 as in the heading"):
        one(path, Layout(ignore=("note",)))
    written(path, rows.replace("1,", "slow,"))
    with pytest.raises(InputError, match=r"a\.csv, line 3, column 'x': 'slow', expected a finite number"):
        one(path, Layout(ignore=("note",)))


def test_a_cell_that_is_no_number_is_told_as_it_is_written(tmp_path: Path) -> None:
    for cell in ("2026-03-29T00:30:00+02:00", "1e400", "2026-03-29 00:30"):
        path = written(tmp_path / "a.csv", f"x,y,label\n1,{cell},u\n")
        with pytest.raises(InputError, match=re.escape(f"a.csv, line 2, column 'y': {cell!r}, expected a finite")):
            one(path)


def test_a_table_that_is_only_measured_is_not_told_of_an_option_of_training(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "x,y\n1,2\n")
    with pytest.raises(InputError, match=r"has no column 'label', expected it among x, y\.$"):
        read([path], Layout(features=("x", "y")), Refused())


def test_numbers_between_semicolons_may_have_a_decimal_comma(tmp_path: Path) -> None:
    found = one(written(tmp_path / "a.csv", "at, C;y;label\n-1,25;2;a\n3;;b,c\n"), Layout(missing="hold"))
    np.testing.assert_array_equal(found.inputs, [[-1.25, 2], [3, np.nan]])
    assert found.features == ("at, C", "y") and found.labels == ["a", "b,c"]
    with pytest.raises(InputError, match=r"a.csv, line 2, column 'x': '1,25', expected a finite number"):
        one(written(tmp_path / "a.csv", 'x,label\n"1,25",a\n'))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.TSV.GZ"])
def test_the_heading_tells_the_separator(tmp_path: Path, separator: str, name: str) -> None:
    heading = ['"temp, C; or\tF"', "y", "label"]
    content = "\n".join(separator.join(row) for row in (heading, ["1", "2", "a"], ["fast", "2", "a"]))
    path, made = tmp_path / name, content.replace("fast", "3").encode("utf-8-sig")
    path.write_bytes(gzip.compress(made) if name.lower().endswith(".gz") else made)
    found = one(path)
    assert found.inputs.tolist() == [[1, 2], [3, 2]] and found.features == ("temp, C; or\tF", "y")
    path.write_bytes(gzip.compress(content.encode()) if name.lower().endswith(".gz") else content.encode())
    with pytest.raises(InputError, match=rf"{name}, line 3, column .*: 'fast', expected a finite number"):
        one(path)


def test_a_gzipped_table_that_is_damaged_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(CSV.encode())
    for damaged in (whole[:-9], whole[:10] + b"\xff" + whole[11:], CSV.encode()):
        (tmp_path / "a.csv.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.csv\.gz is not a table that can be read"):
            one(tmp_path / "a.csv.gz")


def test_a_table_without_the_column_of_sequences_is_one_where_nothing_is_learned(tmp_path: Path) -> None:
    path, layout = written(tmp_path / "a.csv", CSV), Layout(sequence="who")
    found = one(path, layout, labelled=False)
    assert found.name == str(path) and len(found.inputs) == 3
    with pytest.raises(InputError, match=r"a\.csv has no column 'who', expected it among x, y, label"):
        one(path, layout)


def test_the_way_out_of_a_column_of_texts_can_be_typed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", '"when, UTC",x,label\nnoon,1,a\n')
    with pytest.raises(InputError, match="--ignore '\"when, UTC\"' leaves out the column"):
        one(path)


@pytest.mark.parametrize(
    ("layout", "uses"),
    [
        (Layout(), "--ignore 'when,\"a, b\"' leaves out what has no numbers, and --sequence who tells sequences"),
        (Layout(sequence="who"), "--ignore 'when,\"a, b\"' leaves out what has no numbers"),
        (Layout(sequence="who", ignore=("a, b",)), "--ignore when leaves out the column"),
    ],
)
def test_all_columns_without_numbers_are_named_at_once(tmp_path: Path, layout: Layout, uses: str) -> None:
    rows = "".join(f"day {time},m{time // 2},{time or ''},ok,up\n" for time in range(4))
    path = written(tmp_path / "a.csv", f'when,who,x,"a, b",label\n{rows}')
    with pytest.raises(InputError, match="line 2, column 'when': 'day 0', expected a finite number") as error:
        one(path, layout)
    assert uses in str(error.value)


def test_a_quote_within_a_name_is_none_around_it(tmp_path: Path) -> None:
    assert one(written(tmp_path / "a.csv", 'disk 5";y;label\n1;2;a\n')).features == ('disk 5"', "y")


@pytest.mark.parametrize(
    ("who", "layout", "told"),
    [
        ("aabbcc", Layout(), True),
        ("aabbaa", Layout(), False),
        ("aaaaaa", Layout(), False),
        ("abcdef", Layout(), False),
        ("aabbcc", Layout(sequence="x"), False),
    ],
)
def test_a_column_that_tells_sequences_apart_may_be_named_so(
    tmp_path: Path, who: str, layout: Layout, told: bool
) -> None:
    rows = "".join(f"{name},{number},up\n" for number, name in enumerate(who))
    with pytest.raises(
        InputError, match=r"column 'whose is it': 'a', expected .*; --ignore 'whose is it' lea"
    ) as error:
        one(written(tmp_path / "a.csv", f"whose is it,x,label\n{rows}"), layout)
    assert ("and --sequence 'whose is it' tells sequences apart by it" in str(error.value)) == told


@pytest.mark.parametrize(
    "content", ["x,y,label,,\n1,2,walk,,\n3,4.5,walk,,\n5,6,run,,\n", CSV.replace("\n", ",\n")]
)
def test_a_separator_at_the_end_of_every_line_makes_no_column(tmp_path: Path, content: str) -> None:
    expected, found = one(written(tmp_path / "a.csv", CSV)), one(written(tmp_path / "b.csv", content))
    assert np.array_equal(found.inputs, expected.inputs)
    assert (found.features, found.labels) == (expected.features, expected.labels)


def test_a_column_without_a_name_that_has_numbers_is_one(tmp_path: Path) -> None:
    assert one(written(tmp_path / "a.csv", "label,x,\nwalk,1,\nrun,2,3\n"), Layout(missing="hold")).features == (
        "x",
        "",
    )


def test_white_space_around_a_name_is_none_of_it(tmp_path: Path) -> None:
    found = one(written(tmp_path / "a.csv", "x, y , label\n1, 2, 01\n"))
    assert found.features == ("x", "y") and found.inputs.tolist() == [[1, 2]] and found.labels == ["01"]


def test_seconds_since_1970_are_refused_and_close_measurements_are_not(tmp_path: Path) -> None:
    seconds = "".join(f"{1_700_000_000 + t},{t},walk\n" for t in range(9))
    path = written(tmp_path / "a.csv", "time,x,label\n" + seconds)
    with pytest.raises(
        InputError, match=r"a.csv, line 3, column 'time': 1700000001 is too near .*; --ignore time"
    ):
        one(path)
    assert one(path, Layout(ignore=("time",))).inputs[:, 0].tolist() == [*range(9)]
    near = written(tmp_path / "b.csv", "x,label\n1,a\n1.00000001,a\n2,a\n3,b\n4,b\n")
    assert one(near).inputs[:, 0].tolist() == [1, 1, 2, 3, 4]
