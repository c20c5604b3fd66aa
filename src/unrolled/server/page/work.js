// What is under way: the one model, the one stream of it, and what is done with it, one thing after another.

import { $ } from "./elements.js";
import { Stream } from "./server.js";

export const AT_ONCE = 1000; // steps of a request

export let model = null;
export let stream = null;
let work = Promise.resolve();
let turn = 0; // counts up where what is under way is out of date

/** Turn to a model, with which all begins anew. */
export function turnTo(other) {
  model = other;
}

/** A fresh stream. */
export function renew() {
  stream?.close();
  stream = new Stream(model);
}

/** Do this when all before it is done, unless that is out of date by then; returns whether it was done.
 *
 * The task is given a question that it may ask: whether it is out of date meanwhile.
 */
export function then(task) {
  const mine = turn;
  const stale = () => mine !== turn;
  work = work.then(async () => {
    if (stale()) return false;
    try {
      await task(stale);
    } catch (error) {
      if (!stale()) tell(error);
      return false;
    }
    return !stale();
  });
  return work;
}

/** Begin anew with this task and a fresh stream; what is under way ends where it next waits for the old one. */
export function anew(task) {
  turn += 1;
  hush();
  renew();
  return then(task);
}

/** Show what went wrong and, where it may go well another time, a button. */
export function tell(error) {
  const unknown = error.status === 401;
  if (unknown) $("token-field").hidden = false;
  const reason = unknown && !$("token").value.trim() ? "This server asks for a token." : error.message;
  if (!$("problem").hidden && $("problem").textContent === reason) return; // or it would be read out again
  $("problem").textContent = reason;
  $("problem").hidden = false;
  $("again").hidden = error.status === undefined || [401, 422].includes(error.status);
}

export function hush() {
  $("problem").hidden = $("again").hidden = true;
}
