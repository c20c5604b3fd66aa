// The events of one or several sequences: a ribbon for each, and a table of their segments.

import { counted } from "./counted.js";
import { $, cells, heading } from "./elements.js";
import { model } from "./work.js";

const SHADES = [[0.8, 0.95], [0.8, 0.55], [0.5, 0.9]]; // saturation and value of the colours of events, in turn

let found = new Map(); // events by the name of their sequence, which may be empty

export function clear() {
  found = new Map();
  draw();
}

/** What the model says of the next steps of a sequence. */
export function add(name, said) {
  const added = said.map((one) => model.reads.events.indexOf(one));
  found.set(name, [...(found.get(name) ?? []), ...added]);
  draw();
}

function draw() {
  const sequences = [...found];
  const ahead = model.reads.ahead ?? 0;
  $("which").textContent = `The event ${ahead ? `${counted(ahead, "step")} after` : "at"} each step`;
  const canvas = $("ribbon");
  canvas.width = Math.max(1, ...sequences.map(([, events]) => events.length));
  canvas.height = 4 * Math.max(1, sequences.length);
  canvas.style.height = `${2.2 * Math.min(12, Math.max(1, sequences.length))}rem`;
  const brush = canvas.getContext("2d");
  sequences.forEach(([, events], line) => events.forEach((event, step) => {
    brush.fillStyle = colour(event);
    brush.fillRect(step, 4 * line, 1, sequences.length > 1 ? 3 : 4);
  }));
  $("names").replaceChildren(...model.reads.events.map((_, event) => marked(event)));
  const rows = sequences.flatMap(([name, events]) =>
    segments(events).map((one) => [...(name ? [name] : []), ...one]));
  const unit = model.reads.fps ? " (s)" : "";
  const titles = [...(rows[0]?.length > 3 ? ["sequence"] : []), `start${unit}`, `end${unit}`, "event"];
  $("segments").replaceChildren(...(rows.length ? [heading(...titles), ...rows.map((row) => cells(...row))] : []));
}

/** Where each event begins, where it ends (in steps; of films in seconds), and its name with its colour. */
function segments(events) {
  const at = (step) => String(model.reads.fps ? Number((step / model.reads.fps).toFixed(6)) : step);
  const rows = [];
  for (let start = 0, step = 1; step <= events.length; step += 1) {
    if (step < events.length && events[step] === events[start]) continue;
    rows.push([at(start), at(step), marked(events[start])]);
    start = step;
  }
  return rows;
}

/** An event's name, with a square of its colour. */
function marked(event) {
  const shown = document.createElement("span");
  const square = document.createElement("i");
  square.style.background = colour(event);
  shown.append(square, model.reads.events[event]);
  return shown;
}

/** The colour of an event by its number, as in what `unrolled run` draws: hues far apart, in shades by turns. */
function colour(event) {
  if (model.reads.events[event] === model.reads.background) return "transparent";
  const [saturation, value] = SHADES[event % SHADES.length];
  const parts = [0, 4, 2].map((shift) => {
    const lack = 2 - Math.abs(((6 * ((event * 0.618034) % 1) + shift) % 6) - 3); // of this primary in the hue
    return Math.round(255 * value * (1 - saturation * Math.min(1, Math.max(0, lack))));
  });
  return `rgb(${parts.join(" ")})`;
}
