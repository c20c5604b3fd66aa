// The panel of text models: they read what is typed or pasted, and write on.

import { $, cells } from "./elements.js";
import * as memory from "./memory.js";
import * as shades from "./shades.js";
import { chosen, softmax, surprise } from "./softmax.js";
import { Symbols } from "./symbols.js";
import { AT_ONCE, anew, hush, model, renew, stream, then } from "./work.js";

const PREDICTIONS = 10; // symbols shown of what comes next

const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // of what it writes
let symbols = null;
let consumed = "";
let logits = null; // of what comes next
let begun = { symbols: [], rows: [] }; // of a character not written to its end, and the logits before each
let writing = null; // while it writes, what tells this time from others

export function show() {
  symbols = new Symbols(model.reads);
  $("surprise").textContent = symbols.oneByOne ? "How surprising each character was" : "What it read";
  $("shades").hidden = !symbols.oneByOne;
  readAnew();
}

/** Stop writing. */
export function stop() {
  writing = null;
  $("write").textContent = "Write on";
}

/** Read what was added to the text, if that is all that was done to it; returns whether all could be read. */
function readOn() {
  if (!goesOn()) return readAnew();
  stop();
  hush();
  return then(() => (goesOn() ? consume($("text").value.slice(consumed.length)) : readAll()));
}

function goesOn() {
  const whole = $("text").value;
  return !stream.lost && (symbols.oneByOne ? whole.startsWith(consumed) : whole === consumed);
}

function readAnew() {
  stop();
  return anew(readAll);
}

function readAll() {
  if (stream.position || stream.lost) renew();
  consumed = "";
  logits = null;
  endCharacter();
  shades.clear();
  $("next").replaceChildren();
  memory.clear();
  return consume($("text").value);
}

/** What it wrote of a character is all that there is of it. */
function endCharacter() {
  const cut = decoder.decode();
  if (cut) shades.append(shades.shaded(cut, null));
  begun = { symbols: [], rows: [] };
}

/** Read on: the last characters one by one, so that the state after each can be drawn; words whole. */
async function consume(piece) {
  if (piece) endCharacter();
  if (!symbols.oneByOne) {
    // Cut before the space before a word, which is a part of it, if there is one.
    const parts = piece.match(/[^]{1,1000}(?=\s\S|$)|[^]{1,1000}/gu) ?? [];
    for (const part of parts) await consumeShown([part]);
    return;
  }
  const all = [...piece];
  const odd = all.findIndex((character) => symbols.of(character).includes(-1)); // which the model does not know
  const characters = odd < 0 ? all : all.slice(0, odd);
  const seen = Math.max(0, characters.length - shades.SHOWN - 1); // one more, for the logits before the first
  const drawn = Math.max(0, characters.length - memory.COLUMNS);
  for (const part of parted(characters.slice(0, seen), AT_ONCE)) await consumeUnseen(part);
  for (const part of parted(characters.slice(seen, drawn), AT_ONCE)) await consumeShown(part);
  for (const character of characters.slice(drawn)) await consumeShown([character]);
  if (odd < 0) return;
  const lines = consumed.split("\n");
  const place = `Line ${lines.length}, column ${[...lines.at(-1)].length + 1}`;
  throw new Error(`${place}: ${symbols.unknown(all[odd])}`);
}

function parted(all, count) {
  return Array.from({ length: Math.ceil(all.length / count) }, (_, n) => all.slice(n * count, (n + 1) * count));
}

async function consumeUnseen(characters) {
  const piece = characters.join("");
  await stream.skip(piece);
  consumed += piece;
  logits = null;
  showPosition();
}

async function consumeShown(pieces) {
  const piece = pieces.join("");
  const outputs = await stream.feed(piece);
  consumed += piece;
  const rows = [logits, ...outputs];
  shades.append(...pieces.map((one) => {
    const found = symbols.of(one);
    return shades.shaded(one, surprise(found, rows.splice(0, found.length)));
  }));
  await predict(outputs.at(-1));
}

/** Show what comes next, and the state before it. */
async function predict(next) {
  logits = next;
  const likely = softmax(logits);
  const order = [...likely.keys()].sort((a, b) => likely[b] - likely[a]);
  $("next").replaceChildren(...order.slice(0, PREDICTIONS).map((symbol) => {
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.width = `${100 * likely[symbol]}%`;
    const row = cells(symbols.named(symbol), likely[symbol].toFixed(3), bar);
    row.cells[1].className = "number";
    return row;
  }));
  showPosition();
  memory.add(await stream.state(), symbols.oneByOne ? "character" : "part of the text, or piece that it wrote");
}

function showPosition() {
  $("position").textContent = `position ${stream.position.toLocaleString()}`;
}

async function writeOn() {
  if (writing) return stop();
  const read = readOn();
  const mine = {};
  writing = mine;
  $("write").textContent = "Stop";
  let written = "";
  const step = async () => {
    if (writing === mine) written += await write();
  };
  if (await read) while (writing === mine && (await then(step)));
  $("wrote").textContent = written;
  if (writing === mine) stop();
}

/** Write a symbol; returns the characters that end with it. */
async function write() {
  if (!logits) await consume("\n");
  const typed = $("text").value;
  const symbol = chosen(logits, Number($("temperature").value));
  const outputs = await stream.feed([symbol]);
  begun.symbols.push(symbol);
  begun.rows.push(logits);
  const piece = decoder.decode(symbols.bytesOf(symbol), { stream: true });
  consumed += piece;
  if ($("text").value === typed) {
    $("text").value = consumed;
    consumed = $("text").value; // in which a line ends with \n alone
    $("text").scrollTop = $("text").scrollHeight;
  }
  if (piece) {
    shades.append(shades.shaded(piece, symbols.oneByOne ? surprise(begun.symbols, begun.rows) : null));
    begun = { symbols: [], rows: [] };
  }
  await predict(outputs.at(-1));
  return piece;
}

function showTemperature() {
  $("warmth").textContent = Number($("temperature").value).toFixed(2);
}

$("text").oninput = readOn;
$("write").onclick = writeOn;
$("temperature").oninput = showTemperature;
showTemperature();
