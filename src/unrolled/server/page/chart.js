// A chart of a course of numbers: what came, and the forecast of it with its range, at the steps when it comes.

import { $ } from "./elements.js";

const SIDE = 10000; // of the square in which it is drawn, and which the page stretches
const TICK = 40; // half as wide as the mark of a number whose neighbours are missing

/** A number for people, to six digits. */
export const shown = (number) => String(Number(number.toPrecision(6)));

export class Chart {
  constructor(title) {
    this.title = title;
    this.figure = $("chart").content.firstElementChild.cloneNode(true);
    this.figure.querySelector("figcaption").textContent = title;
  }

  /** Draw what came at each step, if that is known, and what was forecast at each for so many steps later. */
  draw({ came, median, low, high }, ahead) {
    const last = median.length - 1 + ahead;
    const [least, most] = ends(came, median, low, high);
    const point = (value, step) => {
      const x = last ? step / last : 0.5;
      const y = most > least ? (most - value) / (most - least) : 0.5;
      return [Math.round(SIDE * x), Math.round(SIDE * y)];
    };
    const put = (name, path) => this.figure.querySelector(`.${name}`).setAttribute("d", path);
    put("came", line(came, point));
    put("median", line(median, (value, step) => point(value, step + ahead)));
    put("range", band(low, high, (value, step) => point(value, step + ahead)));
    const at = { least: shown(least), most: shown(most), first: "0", last: last.toLocaleString() };
    for (const [name, text] of Object.entries(at)) this.figure.querySelector(`.${name}`).textContent = text;
    const said = `${this.title}: steps 0 to ${at.last}, numbers from ${at.least} to ${at.most}`;
    this.figure.querySelector("svg").setAttribute("aria-label", said);
  }
}

/** The least and the most of all numbers in lists, which may lack some. */
function ends(...lists) {
  let [least, most] = [Infinity, -Infinity];
  for (const value of lists.flat()) {
    if (!Number.isFinite(value)) continue;
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return least <= most ? [least, most] : [0, 0];
}

/** A path through the points of numbers, with a gap where some are missing. */
function line(values, point) {
  const there = (step) => Number.isFinite(values[step]);
  return values.map((value, step) => {
    if (!there(step)) return "";
    const [x, y] = point(value, step);
    if (there(step - 1)) return `L${x} ${y}`;
    return there(step + 1) ? `M${x} ${y}` : `M${x - TICK} ${y}h${2 * TICK}`;
  }).join("");
}

/** A path around what lies between two courses. */
function band(low, high, point) {
  const there = [...low.keys()].filter((step) => Number.isFinite(low[step]) && Number.isFinite(high[step]));
  const above = there.map((step) => point(high[step], step));
  const below = there.reverse().map((step) => point(low[step], step));
  return there.length ? `M${[...above, ...below].join("L")}Z` : "";
}
