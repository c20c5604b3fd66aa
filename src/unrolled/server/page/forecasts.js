// The forecasts of one or several sequences: a chart for each of their targets, and a table of the newest.

import { Chart, shown } from "./chart.js";
import { counted } from "./counted.js";
import { $, cells, heading } from "./elements.js";
import { model } from "./work.js";

const PARTS = ["median", "low", "high"]; // as they lie in the outputs of a step, each of every target

let found = new Map(); // by the name of a sequence, which may be empty, the course of each target

export function clear() {
  const { ahead } = model.reads;
  found = new Map();
  const later = `What comes ${counted(ahead, "step")} after each step`;
  $("expected").textContent = ahead ? later : "The estimate at each step";
  $("came").hidden = !ahead; // for then it is not read
  $("charts").replaceChildren();
  tell();
}

/** What was read at the next steps of a sequence, and the outputs of each. */
export function add(name, rows, outputs) {
  const { targets, ahead, columns } = model.reads;
  if (!found.has(name)) found.set(name, targets.map((target) => begun(name, target)));
  found.get(name).forEach((course, k) => {
    const place = columns ? columns.indexOf(targets[k]) : Number(targets[k]);
    if (ahead) course.came.push(...rows.map((row) => row[place]));
    PARTS.forEach((part, n) => course[part].push(...outputs.map((output) => output[n * targets.length + k])));
    course.chart.draw(course, ahead);
  });
  tell();
}

/** The course of a target before its first step. */
function begun(name, target) {
  const chart = new Chart(name ? `${name}: ${target}` : target);
  $("charts").append(chart.figure);
  return { chart, came: [], median: [], low: [], high: [] };
}

/** Tell the newest forecast of each course. */
function tell() {
  const { targets, ahead } = model.reads;
  const rows = [...found].flatMap(([name, courses]) => courses.map((course, k) => {
    const step = (course.median.length - 1 + ahead).toLocaleString();
    return [...(name ? [name] : []), targets[k], step, ...PARTS.map((part) => shown(course[part].at(-1)))];
  }));
  const titles = [...(rows[0]?.length > 5 ? ["sequence"] : []), "target", "for step", ...PARTS];
  $("newest").replaceChildren(...(rows.length ? [heading(...titles), ...rows.map((row) => cells(...row))] : []));
  $("latest").hidden = !rows.length;
}
