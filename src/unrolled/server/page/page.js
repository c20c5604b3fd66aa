// The page of `unrolled serve`: what a served model makes of what one types, pastes, shows or says.
//
// Each panel has a stream of its own on the server, through the same addresses as any client, and draws what comes
// back. `#model=NAME&text=…` (or rows, words) in the address fills a panel in.

import { Stream, ask } from "./server.js";

const $ = (id) => document.getElementById(id);
const PREDICTIONS = 10; // symbols shown of what comes next
const COLUMNS = 160; // characters whose states are drawn
const AT_ONCE = 1000; // steps of a request
const SHADES = [[0.8, 0.95], [0.8, 0.55], [0.5, 0.9]]; // saturation and value of the colours of events, in turn
const SHOWN = 5000; // characters whose surprise is shown: with each that is added, the browser lays all of them out

function softmax(logits, temperature = 1) {
  const most = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp((logit - most) / temperature));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

// ----------------------------------------------------------------------------------------------------- a panel

let model = null;
let stream = null;
let work = Promise.resolve(); // what is under way, one thing after another
let turn = 0; // counts up where what is under way is out of date

/** Do this when all before it is done, unless the panel was begun anew meanwhile. */
function then(task) {
  const mine = turn;
  work = work.then(() => (mine === turn ? task() : undefined)).catch((error) => {
    if (mine === turn) tell(error);
  });
  return work;
}

function tell(error) {
  stopWriting();
  text.lost = error.status !== 422; // which is refused before it is read
  const unknown = error.status === 401;
  if (unknown) $("token-field").hidden = false;
  $("problem").textContent = unknown && !$("token").value ? "This server asks for a token." : error.message;
  $("problem").hidden = false;
}

/** Begin anew with this task and a fresh stream; what is under way ends where it next waits for the old one. */
function anew(task) {
  turn += 1;
  $("problem").hidden = true;
  renew();
  return then(task);
}

function renew() {
  stream?.close();
  stream = new Stream(model);
}

function cells(...contents) {
  const row = document.createElement("tr");
  for (const content of contents) row.insertCell().append(content);
  return row;
}

// ------------------------------------------------------------------------------------------------------ of text

const text = {
  consumed: "",
  logits: null,
  writing: false,
  lost: false,
  decoder: new TextDecoder("utf-8", { ignoreBOM: true }), // of what it writes
  begun: { symbols: [], rows: [] }, // of a character that it has not written to its end, and the logits before each
};

/** The symbols of a text where each character, or byte, is one; else none. */
function symbolsOf(piece) {
  if (model.reads.level === "byte") return [...new TextEncoder().encode(piece)];
  return [...piece].map((character) => model.numbers.get(character) ?? -1);
}

const oneByOne = () => ["char", "byte"].includes(model.reads.level);

/** Read what was added to the text, if that is all that was done to it. */
function readOn() {
  if (!oneByOne() || text.lost) return readText();
  stopWriting();
  $("problem").hidden = true;
  then(() => {
    const whole = $("text").value;
    if (!whole.startsWith(text.consumed)) return void readText();
    return consume(whole.slice(text.consumed.length));
  });
}

function readText() {
  stopWriting();
  anew(() => {
    text.consumed = "";
    text.logits = null;
    text.lost = false;
    $("read").replaceChildren();
    $("next").replaceChildren();
    memory.clear();
    return consume($("text").value);
  });
}

/** Read on: the last characters one by one, so that the state after each can be drawn; words whole. */
async function consume(piece) {
  const cut = text.decoder.decode();
  if (cut) append(shaded(cut, [], []));
  text.begun = { symbols: [], rows: [] };
  if (!oneByOne()) {
    // Cut before the space before a word, which is a part of it, if there is one.
    const parts = piece.match(/[^]{1,1000}(?=\s\S|$)|[^]{1,1000}/gu) ?? [];
    for (const part of parts) await consumed([...part]);
    return;
  }
  const characters = [...piece];
  const far = Math.max(0, characters.length - COLUMNS);
  for (let begin = 0; begin < far; begin += AT_ONCE) {
    await consumed(characters.slice(begin, Math.min(far, begin + AT_ONCE)));
  }
  for (const character of characters.slice(far)) await consumed([character]);
}

async function consumed(characters) {
  const before = text.logits;
  const piece = characters.join("");
  const { outputs } = await stream.feed(piece);
  text.consumed += piece;
  shade(characters, before, outputs);
  await predict(outputs.at(-1));
}

/** Show characters that were read, each as dark as it was surprising. */
function shade(characters, before, outputs) {
  const rows = [before, ...outputs];
  append(...characters.map((character) => {
    const symbols = oneByOne() ? symbolsOf(character) : [];
    return shaded(character, symbols, rows.splice(0, symbols.length));
  }));
}

/** A piece of text as dark as its symbols were surprising after these logits; plain where there were none. */
function shaded(piece, symbols, rows) {
  const shown = document.createElement("span");
  shown.textContent = piece;
  if (symbols.length && rows[0]) {
    const nats = symbols.reduce((sum, symbol, place) => sum - Math.log(softmax(rows[place])[symbol]), 0);
    shown.style.background = `rgb(200 80 30 / ${Math.min(0.85, nats / 8)})`;
    shown.title = `probability ${Math.exp(-nats).toPrecision(2)}, ${nats.toFixed(2)} nats`;
  }
  return shown;
}

function append(...added) {
  $("read").append(...added);
  while ($("read").childElementCount > SHOWN) $("read").firstChild.remove();
  $("read").scrollTop = $("read").scrollHeight;
}

async function predict(logits) {
  text.logits = logits;
  const likely = softmax(logits);
  const order = likely.map((_, symbol) => symbol).sort((a, b) => likely[b] - likely[a]);
  const rows = order.slice(0, PREDICTIONS).map((symbol) => {
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.width = `${100 * likely[symbol]}%`;
    const row = cells(named(symbol), likely[symbol].toFixed(3), bar);
    row.cells[1].className = "number";
    return row;
  });
  $("next").replaceChildren(...rows);
  $("position").textContent = `position ${stream.position.toLocaleString()}`;
  await memory.add();
}

/** A symbol as it can be seen. */
function named(symbol) {
  const piece = model.reads.symbols[symbol];
  if (piece !== null) return JSON.stringify(piece).slice(1, -1).replaceAll('\\"', '"').replaceAll(" ", "␣");
  return model.reads.bytes[symbol].map((byte) => `0x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(" ");
}

function bytesOf(symbol) {
  const piece = model.reads.symbols[symbol];
  return piece === null ? Uint8Array.from(model.reads.bytes[symbol]) : new TextEncoder().encode(piece);
}

function stopWriting() {
  text.writing = false;
  $("write").textContent = "Write on";
}

function writeOn() {
  if (text.writing) return stopWriting();
  if (text.lost) readText();
  text.writing = true;
  $("write").textContent = "Stop";
  then(() => text.logits ? undefined : consume("\n"));
  const step = async () => {
    if (!text.writing) return;
    const typed = $("text").value;
    const symbol = chosen(text.logits, Number($("temperature").value));
    const { outputs } = await stream.feed([symbol]);
    const { symbols, rows } = text.begun;
    symbols.push(symbol);
    rows.push(text.logits);
    const piece = text.decoder.decode(bytesOf(symbol), { stream: true });
    text.consumed += piece;
    if ($("text").value === typed) {
      $("text").value = text.consumed;
      text.consumed = $("text").value; // in which a line ends with \n alone
      $("text").scrollTop = $("text").scrollHeight;
    }
    if (piece) {
      append(shaded(piece, oneByOne() ? symbols : [], rows));
      text.begun = { symbols: [], rows: [] };
    }
    await predict(outputs.at(-1));
    then(step);
  };
  then(step);
}

function chosen(logits, temperature) {
  if (temperature === 0) return logits.indexOf(Math.max(...logits));
  let left = Math.random();
  const likely = softmax(logits, temperature);
  return Math.max(0, likely.findIndex((probability) => (left -= probability) < 0));
}

/** The states after the latest characters, a column each, a line for each unit of the last layer. */
const memory = {
  columns: [],
  due: null, // the frame that will draw them

  clear() {
    this.columns = [];
    this.draw();
  },

  async add() {
    const state = await stream.state();
    const carried = state.c ?? state.h;
    const units = carried.shape.at(-1);
    this.columns.push(carried.values.slice(-units));
    this.columns = this.columns.slice(-COLUMNS);
    const what = state.c ? "c, what the LSTM's cells hold" : "h, what the units carry";
    const step = oneByOne() ? "character" : "part of the text, or piece that it wrote";
    $("carried").textContent =
      `${what}, in the last layer: a column for each ${step}, a line for each of ${units.toLocaleString()} units, ` +
      "first those that change the least. Red is above zero, blue below.";
    this.due ??= requestAnimationFrame(() => this.draw());
  },

  draw() {
    this.due = null;
    const canvas = $("memory");
    const units = this.columns[0]?.length ?? 0;
    canvas.width = COLUMNS;
    canvas.height = units;
    if (!units) return;
    const strengths = this.columns.map((column) => column.map(Math.tanh));
    const changes = Float64Array.from({ length: units }, (_, unit) => strengths.slice(1)
      .reduce((sum, column, before) => sum + Math.abs(column[unit] - strengths[before][unit]), 0));
    const order = [...changes.keys()].sort((a, b) => changes[a] - changes[b]);
    const image = new ImageData(COLUMNS, units);
    strengths.forEach((column, x) => order.forEach((unit, y) => {
      const colour = column[unit] > 0 ? [214, 69, 48] : [52, 105, 196];
      image.data.set([...colour, Math.round(255 * Math.abs(column[unit]))], 4 * (y * COLUMNS + x));
    }));
    canvas.getContext("2d").putImageData(image, 0, 0);
  },
};

// ------------------------------------------------------------------------------- of numbers, words, films, sound

/** The colour of an event by its number, as in what `unrolled run` draws: hues far apart, in shades by turns. */
function colour(event) {
  const [saturation, value] = SHADES[event % SHADES.length];
  const parts = [0, 4, 2].map((shift) => {
    const lack = 2 - Math.abs(((6 * ((event * 0.618034) % 1) + shift) % 6) - 3); // of this primary colour in the hue
    return Math.round(255 * value * (1 - saturation * Math.min(1, Math.max(0, lack))));
  });
  return `rgb(${parts.join(" ")})`;
}

/** An event's name, with a square of its colour. */
function marked(event) {
  const shown = document.createElement("span");
  const square = document.createElement("i");
  square.style.background = colour(event);
  shown.append(square, model.reads.events[event]);
  return shown;
}

/** The events of one or several sequences: a ribbon for each, and a table of their segments. */
const events = {
  found: new Map(), // events by the name of their sequence, which may be empty

  clear() {
    this.found = new Map();
    this.draw();
  },

  /** What an answer says. */
  add(name, { said }) {
    const added = said.map((one) => model.reads.events.indexOf(one));
    this.found.set(name, [...(this.found.get(name) ?? []), ...added]);
    this.draw();
  },

  draw() {
    const sequences = [...this.found];
    const canvas = $("ribbon");
    canvas.width = Math.max(1, ...sequences.map(([, found]) => found.length));
    canvas.height = 4 * Math.max(1, sequences.length);
    canvas.style.height = `${2.2 * Math.min(12, Math.max(1, sequences.length))}rem`;
    const brush = canvas.getContext("2d");
    sequences.forEach(([, found], line) => found.forEach((event, step) => {
      brush.fillStyle = colour(event);
      brush.fillRect(step, 4 * line, 1, sequences.length > 1 ? 3 : 4);
    }));
    $("names").replaceChildren(...model.reads.events.map((_, event) => marked(event)));
    const rows = sequences.flatMap(([name, found]) => segments(found).map((one) => [...(name ? [name] : []), ...one]));
    const heading = document.createElement("tr");
    for (const title of [...(rows[0]?.length > 3 ? ["sequence"] : []), "start", "end", "event"]) {
      heading.append(Object.assign(document.createElement("th"), { textContent: title }));
    }
    $("segments").replaceChildren(...(rows.length ? [heading, ...rows.map((row) => cells(...row))] : []));
  },
};

/** Where each event begins, where it ends (in steps; of films in seconds), and its name with its colour. */
function segments(found) {
  const at = (step) => String(model.reads.fps ? Number((step / model.reads.fps).toFixed(6)) : step);
  const rows = [];
  for (let start = 0, step = 1; step <= found.length; step += 1) {
    if (step < found.length && found[step] === found[start]) continue;
    rows.push([at(start), at(step), marked(found[start])]);
    start = step;
  }
  return rows;
}

/** The rows of numbers in a table, by the sequence they are of: by the names in its heading, or as they stand. */
function numbersOf(table) {
  const lines = table.split(/\r?\n/).map((line, number) => [line, number + 1]).filter(([line]) => line.trim());
  const sequences = new Map();
  if (!lines.length) return sequences;
  const count = (one) => lines[0][0].split(one).length;
  const separator = [";", "\t", ","].reduce((one, other) => (count(other) > count(one) ? other : one));
  const split = (line) => line.split(separator).map((cell) => cell.trim().replace(/^"(.*)"$/, "$1"));
  const columns = model.reads.columns ?? [];
  const heading = split(lines[0][0]);
  const named = columns.length > 0 && columns.every((name) => heading.includes(name));
  const every = [...Array(columns.length || model.shape[0]).keys()];
  const places = named ? columns.map((name) => heading.indexOf(name)) : every;
  const key = named ? heading.indexOf(model.reads.sequence) : -1;
  const of = places.map((_, n) => model.reads.categories?.[columns[n]]); // names, where there are no numbers
  for (const [line, number] of named ? lines.slice(1) : lines) {
    const row = split(line);
    const wanted = named ? heading.length : places.length;
    if (row.length !== wanted) throw new Error(`Line ${number} has ${row.length} cells, expected ${wanted}.`);
    const name = key < 0 ? "" : row[key];
    if (!sequences.has(name)) sequences.set(name, []);
    sequences.get(name).push(places.map((place, n) => (of[n] ? row[place] || null : numberOf(row[place], separator, number))));
  }
  return sequences;
}

function numberOf(cell, separator, line) {
  const missing = /^(|na|n\/a|nan|null)$/i.test(cell);
  if (missing && model.reads.missing === "hold") return null;
  const value = Number(separator === ";" ? cell.replace(",", ".") : cell);
  if (missing || !Number.isFinite(value)) throw new Error(`Line ${line}: ${JSON.stringify(cell)}, expected a number.`);
  return value;
}

function readRows() {
  anew(async () => {
    events.clear();
    for (const [name, rows] of numbersOf($("rows").value)) {
      renew();
      for (let begin = 0; begin < rows.length; begin += AT_ONCE) {
        events.add(name, await stream.feed(rows.slice(begin, begin + AT_ONCE)));
      }
    }
  });
}

function readWords() {
  anew(async () => {
    const words = $("words").value.split(/\s+/).filter(Boolean);
    const said = words.length ? (await stream.feed(words)).said : [];
    $("tags").replaceChildren(...words.map((word, place) => {
      const shown = document.createElement("span");
      const tag = document.createElement("small");
      tag.textContent = said[place];
      shown.append(word, tag);
      return shown;
    }));
  });
}

function showFilm() {
  const screen = $("screen");
  anew(async () => {
    const mine = turn;
    events.clear();
    await new Promise((done, failed) => {
      screen.onloadeddata = done;
      screen.onerror = () => failed(new Error("The browser cannot play this film."));
      screen.src = URL.createObjectURL($("film").files[0]);
    });
    if (mine !== turn) return;
    const [height, width] = model.shape;
    const small = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    for (let time = 0; time < screen.duration; time += 1 / model.reads.fps) {
      await new Promise((done) => {
        screen.onseeked = done;
        screen.currentTime = time + 1e-3; // which is of the frame that begins here
      });
      if (mine !== turn) return;
      small.drawImage(screen, 0, 0, width, height);
      const { data } = small.getImageData(0, 0, width, height);
      events.add("", await stream.feed(data.filter((_, place) => place % 4 < 3)));
    }
  });
}

const sound = { source: null, rest: [] };

function stopListening() {
  sound.source.mediaStream.getTracks().forEach((track) => track.stop()); // else the browser goes on recording
  sound.source.context.close();
  sound.source = null;
  $("listen").textContent = "Listen";
}

async function listen() {
  if (sound.source) return stopListening();
  try {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers give the microphone to pages of their own machine alone, or over HTTPS.");
    }
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
    const source = sourceOf(microphone, model.reads.rate);
    sound.source = source;
    await source.context.audioWorklet.addModule("page/microphone.js");
    const node = new AudioWorkletNode(source.context, "microphone");
    source.connect(node);
    $("listen").textContent = "Stop";
    $("heard").textContent = "";
    sound.rest = [];
    await anew(() => {});
    node.port.onmessage = ({ data }) => heard(data, source.context.sampleRate, model.reads.rate);
  } catch (error) {
    tell(error);
  }
}

/** What the microphone gives, at the model's rate if the browser resamples it. */
function sourceOf(microphone, rate) {
  try {
    return new AudioContext({ sampleRate: rate }).createMediaStreamSource(microphone);
  } catch {
    return new AudioContext().createMediaStreamSource(microphone);
  }
}

/** Take samples of the microphone's rate; every fifth of a second they go on, each the mean of those it stands for. */
function heard(samples, from, rate) {
  sound.rest.push(...samples);
  const count = Math.floor((sound.rest.length * rate) / from);
  if (count < rate / 5) return;
  const ends = Array.from({ length: count + 1 }, (_, n) => Math.round((n * from) / rate));
  const mean = (begin, end) => sound.rest.slice(begin, end).reduce((sum, one) => sum + one, 0) / (end - begin);
  const taken = ends.slice(1).map((end, n) => mean(ends[n], end));
  sound.rest = sound.rest.slice(ends[count]);
  then(() => hear(taken, rate));
}

async function hear(samples, rate) {
  const { said } = await stream.feed(samples);
  $("problem").hidden = true; // of samples that were lost
  $("heard").textContent += said.join("");
  $("heard-for").textContent = `${(stream.position / rate).toFixed(1)} s`;
}

// --------------------------------------------------------------------------------------------------- the page

function panelOf(one) {
  if (one.task === "text") return "of-text";
  if (one.task === "speech") return "of-sound";
  if (one.dtype === null) return "of-words";
  return one.shape.length === 3 ? "of-film" : "of-rows";
}

function show(one) {
  if (sound.source) stopListening();
  model = one;
  stopWriting();
  if (one.task === "text") {
    one.numbers = new Map(one.reads.symbols.map((piece, symbol) => [piece, symbol]));
    $("surprise").textContent = oneByOne() ? "How surprising each character was" : "What it read";
    $("shades").hidden = !oneByOne();
  }
  const panel = panelOf(one);
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== panel;
  $("events").hidden = !["of-rows", "of-film"].includes(panel);
  $("panel").hidden = false;
  if (panel === "of-rows") {
    const columns = one.reads.columns ?? [];
    $("columns").textContent = columns.length
      ? `Rows of ${columns.join(", ")}; or a table with a heading that has these names.`
      : `Rows of ${one.shape[0]} numbers.`;
  }
  if (panel === "of-text") readText();
  else if (panel === "of-rows") readRows();
  else if (panel === "of-words") readWords();
  else if (panel === "of-film" && $("film").files.length) showFilm();
  else anew(() => (panel === "of-film" ? events.clear() : undefined));
}

async function begin() {
  try {
    const models = await (await ask("GET", "models")).json();
    $("problem").hidden = true;
    const wanted = new URLSearchParams(location.hash.slice(1));
    for (const id of ["text", "rows", "words"]) if (wanted.has(id)) $(id).value = wanted.get(id);
    $("model").replaceChildren(...models.map((one) => new Option(one.name)));
    const first = Math.max(0, models.findIndex((one) => one.name === wanted.get("model")));
    $("model").selectedIndex = first;
    $("model").onchange = () => {
      const chosen = models[$("model").selectedIndex];
      history.replaceState(null, "", `#model=${encodeURIComponent(chosen.name)}`); // to which reloading comes back
      show(chosen);
    };
    show(models[first]);
  } catch (error) {
    tell(error);
  }
}

$("token").onchange = begin;
$("text").oninput = readOn;
$("write").onclick = writeOn;
$("rows").oninput = readRows;
$("words").oninput = readWords;
$("film").onchange = showFilm;
$("listen").onclick = listen;
addEventListener("hashchange", begin);
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", ({ persisted }) => persisted && model && show(model)); // whose stream is gone
begin();
