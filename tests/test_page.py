"""The page of the server: what it is made of is served and, where there is a browser, it shows what was read."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.sync.client import connect

from servers import serving
from small import forecast_file, inputs_for, label_file, model_of, speech_file, text_file
from unrolled import Stream, modelfile, server, vocabulary
from unrolled.sequences import films
from unrolled.sequences.events import colour
from unrolled.server.access import add_token
from unrolled.softmax import softmax
from unrolled.stream import CausalModel
from unrolled.tasks.forecast import ForecastModel
from unrolled.tasks.forecast.streamed import Forecast
from unrolled.tasks.text import TextModel
from unrolled.vocabulary import BpeVocabulary, ByteVocabulary, WordVocabulary

PAGE = Path(server.__file__).with_name("page")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

BY_WORD = WordVocabulary.learn(["a word, and another one"], 20)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    table = label_file("numbers")
    table.encoding["layout"] |= {"features": ["x", "y", "z"], "sequence": "who"}
    files = {"text": text_file(), "table": table, "words": label_file("words"), "speech": speech_file()}
    files["film"] = label_file("films")
    for name, ahead in (("next", 1), ("ahead", 12)):
        files[name] = label_file("numbers")
        files[name].encoding["layout"] |= {"ahead": ahead}
    files["forecast"], files["estimate"], files["rooms"] = forecast_file(), forecast_file(ahead=0), rooms_file()
    files["estimate"].encoding["targets"] = ["0"]
    files["by-word"] = text_file(vocabulary=BY_WORD)
    files["by-byte"] = text_file(vocabulary=ByteVocabulary())
    # A name that is wider than a narrow screen.
    files["half-of-one-character-and-half-of-the-next"] = always_half_of_one_character_and_half_of_the_next()
    for name, file in files.items():
        modelfile.write(folder / f"{name}.safetensors", file)
    with serving(*sorted(folder.iterdir()), store=folder / "streams.db") as server:
        yield server.address


def rooms_file() -> modelfile.ModelFile:
    """A forecast model of tables, with several sequences and cells that are missing."""
    file = forecast_file()
    file.encoding.update(columns=["x", "y", "z"], targets=["z", "x"])
    file.encoding["layout"] |= {"features": ["x", "y", "z"], "sequence": "who", "missing": "hold"}
    return file


def always_half_of_one_character_and_half_of_the_next() -> modelfile.ModelFile:
    """A model that writes the last byte of an é and the first of another one, again and again."""
    document = BpeVocabulary.learn(["a"], 256).to_json()
    document["tokenizer"]["model"]["vocab"]["©Ã"] = 256
    document["tokenizer"]["model"]["merges"].append(["©", "Ã"])
    file = text_file(vocabulary=vocabulary.from_json(document))
    file.tensors["head.bias"][256] = 1000
    return file


def test_all_that_the_page_is_made_of_is_served_and_nothing_comes_from_elsewhere(address: str) -> None:
    page = httpx.get(address)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    named = set(re.findall(r'(?:href|src)="((?!data:|docs)[^"]+)"', page.text))
    kinds = {"css": "text/css", "js": "text/javascript"}
    served: set[str] = set()
    while named - served:
        name = min(named - served)
        served.add(name)
        found = httpx.get(f"{address}/{name}")
        assert found.status_code == 200, name
        assert found.headers["content-type"] == f"{kinds[name.rpartition('.')[2]]}; charset=utf-8"
        assert found.headers["cache-control"] == "no-cache"
        named |= {f"page/{other}" for other in re.findall(r'from "./([^"]+)"', found.text)}
        named |= set(re.findall(r'addModule\("([^"]+)"', found.text))
    assert served == {f"page/{path.name}" for path in PAGE.iterdir() if path.suffix != ".html"}


def test_the_page_asks_for_addresses_that_there_are(address: str) -> None:
    script = "".join(path.read_text(encoding="utf-8") for path in PAGE.glob("*.js"))
    asked = {(method, re.sub("^/", "streams/{id}/", path)) for method, path in re.findall(
        r'"(GET|POST)", "([^"]+)"', script
    )} | {("POST", "streams/{id}/feed"), ("DELETE", "streams/{id}")}  # fmt: skip
    assert ("POST", "streams") in asked and ("GET", "streams/{id}/state") in asked
    there = httpx.get(f"{address}/openapi.json").json()["paths"]
    assert [one for one in asked if one[0].lower() not in there[f"/{one[1]}"]] == []


def test_models_say_what_their_symbols_are(address: str) -> None:
    found = {one["name"]: one["reads"] for one in httpx.get(f"{address}/models").json()}
    text, speech = model_of("text"), model_of("speech")
    assert found["text"] == {"level": "char", "symbols": list(text.vocabulary.decode(range(text.vocabulary.size)))}
    symbols = list(speech.vocabulary.decode(range(speech.vocabulary.size)))
    assert found["speech"] == {"rate": speech.bank.rate, "symbols": symbols}


def shown(address: str, **filled: str) -> str:
    """The page's document, once it has read what its address says."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    parts = "&".join(f"{name}={quote(value)}" for name, value in filled.items())
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=8000",
        "--dump-dom",
    ]
    done = subprocess.run([*command, f"{address}/#{parts}"], capture_output=True, text=True, timeout=100)
    assert "<title>unrolled</title>" in done.stdout, done.stderr
    return done.stdout


@contextmanager
def opened(address: str, folder: Path, width: int = 1000, **filled: str) -> Iterator[Callable[[str], Any]]:
    """A page in a browser: a script that runs in it, with `$`, `until` and more, gives what it returns."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    parts = "&".join(f"{name}={quote(value)}" for name, value in filled.items())
    own = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--user-data-dir={folder}",
        "--remote-debugging-port=0",
    ]
    with subprocess.Popen([CHROMIUM, *own, "about:blank"], stderr=subprocess.PIPE, text=True) as browser:
        try:
            assert browser.stderr is not None
            said = next(line for line in browser.stderr if line.startswith("DevTools listening on "))
            port = urlsplit(said.split()[-1]).port
            pages = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            (page,) = [one for one in pages if one["type"] == "page"]
            with connect(page["webSocketDebuggerUrl"], max_size=None) as tools:

                def ask(method: str, **parameters: Any) -> Any:
                    tools.send(json.dumps({"id": 1, "method": method, "params": parameters}))
                    answer = json.loads(tools.recv(timeout=60))
                    assert "exceptionDetails" not in answer["result"], answer
                    return answer["result"]

                def run(script: str) -> Any:
                    whole = f"(async () => {{ {UNTIL} {script} }})()"
                    answer = ask("Runtime.evaluate", expression=whole, awaitPromise=True, returnByValue=True)
                    return answer["result"].get("value")

                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                ask("Emulation.setDeviceMetricsOverride", **size)
                ask("Page.navigate", url=f"{address}/#{parts}")
                yield run
        finally:
            browser.kill()


UNTIL = """
const $ = (id) => document.getElementById(id);
const until = async (happened) => { while (!happened()) await new Promise((done) => setTimeout(done, 5)); };
const put = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event("input")); };
const press = (id, key) => $(id).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const turnTo = (name) => { $("model").value = name; $("model").dispatchEvent(new Event("change")); };
await until(() => $("model")?.options.length || $("token-field")?.hidden === false);
"""
WRITING = """
await until(() => $("position").textContent === "position 3");
$("write").click();
await until(() => $("read").textContent.length > 5);
"""


def cells(document: str, id: str) -> list[list[str]]:
    """The rows of a table, as they read."""
    (table,) = re.findall(rf'<table id="{id}"[^>]*>(.*?)</table>', document, re.DOTALL)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [
        [unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
        for row in rows
    ]


@pytest.mark.parametrize(
    "text", ["abc bad", "head " * 50 + "cab"]
)  # read character by character; at first at once
def test_of_a_text_it_shows_how_surprising_each_character_was_and_what_comes_next(address: str, text: str) -> None:
    document = shown(address, model="text", text=text)
    model = model_of("text")
    likely = softmax(Stream(model).feed(text))
    found = re.findall(r'<span[^>]*title="probability ([^,]+), [^"]+"[^>]*>(.)</span>', document)
    expected = likely[np.arange(len(text) - 1), model.vocabulary.encode(text)[1:]]
    assert "".join(letter for _, letter in found) == text[1:]
    np.testing.assert_allclose([float(one) for one, _ in found], expected, rtol=0.06)
    names = [repr(one)[1:-1].replace(" ", "␣") for one in model.vocabulary.decode(range(model.vocabulary.size))]
    best = sorted(range(len(names)), key=lambda symbol: -likely[-1, symbol])[:10]
    assert [row[:2] for row in cells(document, "next")] == [
        [names[symbol], f"{likely[-1, symbol]:.3f}"] for symbol in best
    ]
    assert '<canvas id="memory" height="0"' not in document


def test_bytes_that_are_no_character_are_named_as_elsewhere(address: str) -> None:
    by_byte = ByteVocabulary()
    found = cells(shown(address, model="by-byte", text="aé"), "next")
    likely = Stream(TextModel(text_file(vocabulary=by_byte))).feed("aé")[-1]
    best = np.argsort(-likely)[:10]
    parts = [(row[0], by_byte.symbol(symbol)) for row, symbol in zip(found, best, strict=True) if symbol > 127]
    assert len(parts) > 2
    assert [name for name, _ in parts] == [name for _, name in parts]


def test_it_writes_characters_when_they_are_whole(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="half-of-one-character-and-half-of-the-next", text="a") as run:
        written, read = run("""await until(() => $("next").rows.length);
            $("write").click();
            await until(() => $("text").value.length > 5);
            $("write").click();
            return [$("text").value, $("read").textContent];""")
    assert re.fullmatch("a\ufffdé{3,}", written)
    assert read.startswith(written)


def test_of_a_table_it_shows_the_events_of_each_of_its_sequences(address: str) -> None:
    model: CausalModel = model_of("numbers")
    rows = np.round(inputs_for("numbers", 40), 3)
    half = len(rows) // 2
    named = [("m0", row) for row in rows[:half]] + [("m1", row) for row in rows[half:]]
    table = "\n".join(["who,z,x,y", *(f"{name},{z},{x},{y}" for name, (x, y, z) in named)])
    found = cells(shown(address, model="table", rows=table), "segments")
    assert found[0] == ["sequence", "start", "end", "event"]
    for name, part in (("m0", rows[:half]), ("m1", rows[half:])):
        said = Stream(model).read(part)
        steps = [row[3] for row in found[1:] if row[0] == name for _ in range(int(row[1]), int(row[2]))]
        assert steps == said


def drawn(path: str) -> NDArray[np.int64]:
    """The points of a path [N, 2]."""
    return np.array([[int(x), int(y)] for x, y in re.findall(r"(\d+)[ ,](\d+)", path)])


def points(numbers: NDArray[np.float32], first: int, ends: list[str]) -> NDArray[np.float64]:
    """Where a chart with these ends has numbers of which the first comes at a step; some may be missing."""
    begin, end, least, most = map(float, ends)
    steps = np.arange(first, first + len(numbers))
    found = np.stack([(steps - begin) / (end - begin), (most - numbers) / (most - least)], axis=1)
    return 10000 * found[~np.isnan(numbers)]


def test_of_numbers_it_draws_what_came_and_the_forecast_of_it_where_that_comes(
    address: str, tmp_path: Path
) -> None:
    rows = np.round(inputs_for("forecast", 40), 3)
    rows[5:7, 2] = np.nan
    parts = {"m0": rows[:25], "m1": rows[25:]}
    table = ["who,z,x,y", *(f"{who},{z},{x},{y}" for who, part in parts.items() for x, y, z in part)]
    with opened(address, tmp_path, model="rooms", rows="\n".join(table)) as run:
        title, charts, newest = run("""await until(() => $("newest").rows.length === 5);
            const charts = [...$("charts").children].map((figure) => {
              const part = (name) => figure.querySelector(`.${name}`);
              return [figure.querySelector("figcaption").textContent,
                      ...["came", "median", "range"].map((name) => part(name).getAttribute("d")),
                      ["first", "last", "least", "most"].map((name) => part(name).textContent)];
            });
            const newest = [...$("newest").rows].map((row) => [...row.cells].map((cell) => cell.textContent));
            return [$("expected").textContent, charts, newest];""")
    assert title == "What comes 2 steps after each step"
    assert newest[0] == ["sequence", "target", "for step", "median", "low", "high"]
    courses = [(who, "zx"[k], part[:, (2, 0)[k]], k) for who, part in parts.items() for k in range(2)]
    model = ForecastModel(rooms_file())
    for (who, target, true, k), chart, row in zip(courses, charts, newest[1:], strict=True):
        name, came, median, around, ends = chart
        said = Forecast(*(one[:, k] for one in model.forecast(parts[who])))
        assert (name, ends[:2]) == (f"{who}: {target}", ["0", str(len(true) + 1)])
        assert came.count("M") == (2 if np.isnan(true).any() else 1)  # with a gap where it is missing
        np.testing.assert_allclose(drawn(came), points(true, 0, ends), atol=1)
        np.testing.assert_allclose(drawn(median), points(said.median, 2, ends), atol=1)
        sides = [points(said.high, 2, ends), points(said.low, 2, ends)[::-1]]
        np.testing.assert_allclose(drawn(around), np.concatenate(sides), atol=1)
        assert row == [who, target, ends[1], *(f"{one[-1]:.6g}" for one in said)]


def test_an_estimate_is_drawn_alone_for_what_it_is_of_is_not_read(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="forecast", rows="4,5,7\n1,2,3") as run:
        found = run("""const found = [];
            for (const [name, targets] of [["forecast", 2], ["estimate", 1]]) {
              turnTo(name);
              await until(() => $("newest").rows.length === 1 + targets);
              const lines = [...$("charts").querySelectorAll("path.came")];
              const came = lines.map((one) => one.getAttribute("d") !== "");
              found.push([$("expected").textContent, $("came").hidden, came]);
            }
            return found;""")
    assert found == [
        ["What comes 2 steps after each step", False, [True, True]],
        ["The estimate at each step", True, [False]],
    ]


def test_what_cannot_be_read_is_said(address: str) -> None:
    for filled, reason in (
        ({"model": "table", "rows": "x,y,z\n1,2,3\n4,,6"}, 'Line 3: "", expected a number.'),
        ({"model": "table", "rows": "1,2,1e999"}, 'Line 1: "1e999", expected a number.'),
        ({"model": "table", "rows": "1,2"}, "Line 1 has 2 cells, expected 3."),
        ({"model": "table", "rows": "1"}, "Line 1 has 1 cell, expected 3."),
        ({"model": "text", "text": "abc bad é"}, "Line 1, column 9: the character 'é' (U+00E9) is not one of the"),
    ):
        assert reason in unescape(shown(address, **filled))


def test_another_model_takes_over_from_one_that_writes_and_whose_stream_is_deleted(
    address: str, tmp_path: Path
) -> None:
    before = len(httpx.get(f"{address}/streams").json()["streams"])
    with opened(address, tmp_path, model="text", text="abc") as run:
        problem = run(f"""{WRITING}
            const streams = async () => (await (await fetch("streams")).json()).streams.length;
            turnTo("speech");
            while (await streams() > {before});
            turnTo("table");
            put("rows", "1,2,3");
            await until(() => $("segments").rows.length === 2);
            return $("problem").textContent;""")
    assert problem == ""


def test_what_is_typed_while_it_writes_stays_and_ends_the_writing(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abc") as run:
        typed, kept, button = run(f"""{WRITING}
            const typed = $("text").value + "bad";
            put("text", typed);
            await until(() => $("read").textContent === typed || $("text").value !== typed);
            return [typed, $("text").value, $("write").textContent];""")
    assert kept == typed
    assert button == "Write on"


def test_of_a_long_text_it_shows_its_end_and_counts_it_all(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abc") as run:
        shown = run("""put("text", "abc bad ".repeat(1000));
            await until(() => $("position").textContent === `position ${(8000).toLocaleString()}`);
            return $("read").childElementCount;""")
    assert shown == 5000


def test_of_a_model_of_words_it_cuts_none_of_a_long_text(address: str, tmp_path: Path) -> None:
    text = "a word, and another one " * 100
    with opened(address, tmp_path, model="by-word", text=text) as run:
        position, shaded = run(f"""await until(() => $("read").textContent.length === {len(text)});
            await until(() => $("next").rows.length);
            return [$("position").textContent, $("shades").hidden];""")
    assert position == f"position {len(BY_WORD.encode(text))}"
    assert shaded is True


def test_events_have_the_colours_that_they_have_elsewhere(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="table", rows="1,2,3") as run:
        marks, names = run("""await until(() => $("segments").rows.length);
            const events = [...$("names").querySelectorAll("i")];
            const said = $("segments").querySelector("i");
            return [[...events, said].map((one) => getComputedStyle(one).backgroundColor),
                    [...events, said].map((one) => one.parentElement.textContent)];""")
    found = [tuple(map(int, re.findall(r"\d+", mark))) for mark in marks]
    assert np.abs(np.subtract(found[:3], [colour(number) for number in range(3)])).max() <= 1
    assert found[3] == found[names.index(names[3])]


def test_the_address_keeps_the_model_and_may_be_changed(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abc") as run:
        kept, text = run("""turnTo("by-byte");
            const kept = location.hash;
            location.hash = "#model=text&text=bad";
            await until(() => $("read").textContent === "bad");
            return [kept, $("model").value];""")
    assert (kept, text) == ("#model=by-byte", "text")


def test_what_was_not_read_is_not_written_over(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abcébad") as run:
        text, problem = run("""await until(() => !$("problem").hidden);
            $("write").click();
            await until(() => $("write").textContent === "Write on");
            return [$("text").value, $("problem").textContent];""")
    assert text == "abcébad"
    assert problem.startswith("Line 1, column 4: ")


def test_escape_ends_the_writing_and_what_was_written_is_said(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abc") as run:
        text, said = run(f"""{WRITING}
            press("text", "Escape");
            await until(() => $("wrote").textContent);
            return [$("text").value, $("wrote").textContent];""")
    assert text == f"abc{said}"


def test_the_arrow_keys_go_to_a_character_and_its_probability(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abc") as run:
        titles, told = run("""await until(() => $("position").textContent === "position 3");
            const told = ["ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowRight"].map((key) => {
              press("read", key);
              return $("probability").textContent;
            });
            return [[...$("read").children].map((one) => one.title), told];""")
    assert titles[0] == "" and len(set(titles)) == 3
    b, c = f'"b": {titles[1]}', f'"c": {titles[2]}'
    assert told == [c, b, b, c]


def test_whatever_takes_the_focus_or_is_a_picture_has_a_name(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="text", text="abc", rows="1,2,3") as run:
        nameless = run("""await until(() => $("carried").textContent);
            turnTo("forecast");
            await until(() => $("newest").rows.length);
            const named = (one) => one?.getAttribute("aria-label") || one?.textContent.trim();
            const labels = (one) => [one, one.labels?.[0], $(one.getAttribute("aria-labelledby"))];
            const all = "a, button, select, input, textarea, canvas, video, [role=img], [tabindex]";
            const found = [...document.querySelectorAll(all)];
            return found.filter((one) => !labels(one).some(named)).map((one) => one.id);""")
    assert nameless == []


@pytest.mark.parametrize(
    ("model", "drawn"),
    [
        ("text", "next"),
        ("table", "segments"),
        ("words", "tags"),
        ("film", None),
        ("speech", None),
        ("rooms", "newest"),
    ],
)
def test_on_a_narrow_screen_nothing_is_out_of_sight(
    address: str, tmp_path: Path, model: str, drawn: str | None
) -> None:
    filled = {"text": "abc bad " * 10, "rows": "1,2,3", "words": "one two"}
    with opened(address, tmp_path, width=320, model=model, **filled) as run:
        if drawn:
            run(f'await until(() => $("{drawn}").childElementCount);')
        assert run("return document.documentElement.scrollWidth;") <= 320


def test_events_that_are_ahead_are_said_to_be(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="table") as run:
        headings = run("""const found = [];
            for (const name of ["table", "next", "ahead"]) {
              $("which").textContent = "";
              turnTo(name);
              await until(() => $("which").textContent);
              found.push($("which").textContent);
            }
            return found;""")
    assert headings == [
        "The event at each step",
        "The event 1 step after each step",
        "The event 12 steps after each step",
    ]


def test_a_film_is_read_to_its_end(address: str, tmp_path: Path) -> None:
    films.write(tmp_path / "film.mp4", [np.full((16, 16, 3), 10 * number, np.uint8) for number in range(20)], 10)
    content = base64.b64encode((tmp_path / "film.mp4").read_bytes()).decode()
    with opened(address, tmp_path / "browser", model="film") as run:
        seen, heading, end = run(f"""
            const content = Uint8Array.from(atob("{content}"), (one) => one.charCodeAt(0));
            const chosen = new DataTransfer();
            chosen.items.add(new File([content], "film.mp4"));
            $("film").files = chosen.files;
            $("film").dispatchEvent(new Event("change"));
            await until(() => $("seen").textContent.startsWith("2.0"));
            const rows = [...$("segments").rows].map((row) => [...row.cells].map((cell) => cell.textContent));
            return [$("seen").textContent, rows[0], rows.at(-1)[1]];""")
    assert (seen, heading, end) == ("2.0 of 2.0 s", ["start (s)", "end (s)", "event"], "2")


def test_a_server_that_was_gone_may_be_asked_again(tmp_path: Path) -> None:
    modelfile.write(tmp_path / "text.safetensors", text_file())
    with (
        serving(tmp_path / "text.safetensors", store=tmp_path / "streams.db") as server,
        opened(server.address, tmp_path / "browser", model="text", text="abc") as run,
    ):
        run("""await until(() => $("position").textContent === "position 3");""")
        server.kill()
        problem = run("""$("write").click();
            await until(() => !$("again").hidden);
            return $("problem").textContent;""")
        server.start()
        hidden = run("""$("again").click();
            $("position").textContent = "";
            await until(() => $("position").textContent === "position 3");
            return [$("problem").hidden, $("again").hidden];""")
    assert problem == "The server does not answer."
    assert hidden == [True, True]


def test_a_token_is_asked_for_and_one_that_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    modelfile.write(tmp_path / "text.safetensors", text_file())
    tokens = tmp_path / "tokens"
    token = add_token(tokens, "alice")
    with (
        serving(tmp_path / "text.safetensors", "--tokens", tokens, store=tmp_path / "streams.db") as server,
        opened(server.address, tmp_path / "browser") as run,
    ):
        said, focus, models = run(f"""const said = [$("problem").textContent];
            const focus = document.activeElement.id;
            for (const one of ["“{token}”", "{token[:-1]}é", " {token} "]) {{
              $("token").value = one;
              $("problem").textContent = "";
              $("token").dispatchEvent(new Event("change"));
              await until(() => $("problem").textContent || $("problem").hidden);
              said.push($("problem").textContent);
            }}
            return [said, focus, [...$("model").options].map((one) => one.value)];""")
    assert said == [
        "This server asks for a token.",
        "The token has a character that no request can carry.",
        "the token is none of those that the server read as it started.",
        "",
    ]
    assert (focus, models) == ("token", ["text"])


@pytest.mark.parametrize(
    "lost",
    [
        """const { streams } = await (await fetch("streams")).json();
           for (const { id } of streams) await fetch(`streams/${id}`, { method: "DELETE" });
           $("write").click();
           await until(() => !$("problem").hidden);""",
        """for (const [kind, persisted] of [["pagehide", true], ["pageshow", true]])
             dispatchEvent(new PageTransitionEvent(kind, { persisted }));""",
    ],
    ids=["on the server", "while another page was shown"],
)
def test_it_writes_on_after_its_stream_is_gone(address: str, tmp_path: Path, lost: str) -> None:
    with opened(address, tmp_path, model="text", text="abc") as run:
        written, read, problem = run(f"""await until(() => $("position").textContent === "position 3");
            {lost}
            $("write").click();
            await until(() => $("text").value.length > 5 || !$("problem").hidden);
            return [$("text").value, $("read").textContent, $("problem").hidden];""")
    assert written.startswith("abc") and written == read and len(written) > 5
    assert problem is True


def test_the_microphone_is_let_go_where_listening_ends(address: str, tmp_path: Path) -> None:
    with opened(address, tmp_path, model="speech") as run:
        found = run("""const tracks = [];
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wanted) => {
              const microphone = await ask(wanted);
              tracks.push(...microphone.getTracks());
              return microphone;
            };
            const states = [];
            for (const end of [() => $("listen").click(), () => $("model").dispatchEvent(new Event("change"))]) {
              $("listen").click();
              await until(() => $("listen").textContent === "Stop");
              end();
              states.push($("listen").textContent, tracks.at(-1).readyState);
            }
            return [...states, $("problem").hidden];""")
    assert found == ["Listen", "ended", "Listen", "ended", True]
