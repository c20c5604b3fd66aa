// The panel of models that read numbers, to label or to forecast: rows of them, or a table.

import { counted } from "./counted.js";
import { $ } from "./elements.js";
import * as events from "./events.js";
import * as forecasts from "./forecasts.js";
import { AT_ONCE, anew, model, renew, stream } from "./work.js";

export function show() {
  const columns = model.reads.columns ?? [];
  $("columns").textContent = columns.length
    ? `Rows of ${columns.join(", ")}; or a table with a heading that has these names.`
    : `Rows of ${counted(model.shape[0], "number")}.`;
  read();
}

function read() {
  anew(async () => {
    const forecast = model.task === "forecast";
    (forecast ? forecasts : events).clear();
    for (const [name, rows] of numbersOf($("rows").value)) {
      renew();
      for (let begin = 0; begin < rows.length; begin += AT_ONCE) {
        const part = rows.slice(begin, begin + AT_ONCE);
        if (forecast) forecasts.add(name, part, await stream.feed(part));
        else events.add(name, await stream.read(part));
      }
    }
  });
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
    const cells = counted(row.length, "cell");
    if (row.length !== wanted) throw new Error(`Line ${number} has ${cells}, expected ${wanted}.`);
    const name = key < 0 ? "" : row[key];
    if (!sequences.has(name)) sequences.set(name, []);
    const read = (place, n) => (of[n] ? row[place] || null : numberOf(row[place], separator, number));
    sequences.get(name).push(places.map(read));
  }
  return sequences;
}

function numberOf(cell, separator, line) {
  const missing = /^(|na|n\/a|nan|null)$/i.test(cell);
  if (missing && model.reads.missing === "hold") return null;
  const value = Number(separator === ";" ? cell.replace(",", ".") : cell);
  if (missing || !Number.isFinite(value)) {
    throw new Error(`Line ${line}: ${JSON.stringify(cell)}, expected a number.`);
  }
  return value;
}

$("rows").oninput = read;
