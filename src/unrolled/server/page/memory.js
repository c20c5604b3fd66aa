// A picture of the states after the latest characters: a column each, a line for each unit of the last layer.

import { $ } from "./elements.js";

export const COLUMNS = 160; // characters whose states are drawn

let columns = [];
let due = null; // the frame that will draw them

export function clear() {
  columns = [];
  draw();
}

/** Add the state after a step, which is of a kind. */
export function add(state, step) {
  const carried = state.c ?? state.h;
  const units = carried.shape.at(-1);
  columns = [...columns, carried.values.slice(-units)].slice(-COLUMNS);
  const what = state.c ? "c, what the LSTM's cells hold" : "h, what the units carry";
  $("carried").textContent =
    `${what}, in the last layer: a column for each ${step}, a line for each of ${units.toLocaleString()} units, ` +
    "first those that change the least. Red is above zero, blue below.";
  due ??= requestAnimationFrame(draw);
}

function draw() {
  due = null;
  const canvas = $("memory");
  const units = columns[0]?.length ?? 0;
  canvas.width = COLUMNS;
  canvas.height = units;
  if (!units) return;
  const strengths = columns.map((column) => column.map(Math.tanh));
  const changes = Float64Array.from({ length: units }, (_, unit) => strengths.slice(1)
    .reduce((sum, column, before) => sum + Math.abs(column[unit] - strengths[before][unit]), 0));
  const order = [...changes.keys()].sort((a, b) => changes[a] - changes[b]);
  const image = new ImageData(COLUMNS, units);
  strengths.forEach((column, x) => order.forEach((unit, y) => {
    const colour = column[unit] > 0 ? [214, 69, 48] : [52, 105, 196];
    image.data.set([...colour, Math.round(255 * Math.abs(column[unit]))], 4 * (y * COLUMNS + x));
  }));
  canvas.getContext("2d").putImageData(image, 0, 0);
}
