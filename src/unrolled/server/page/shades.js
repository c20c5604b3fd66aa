// The text that was read, each piece as dark as it was surprising.

import { $ } from "./elements.js";

export const SHOWN = 5000; // pieces: with each that is added, the browser lays all of them out

let told = null; // the piece whose probability is told

export function clear() {
  $("read").replaceChildren();
  tell(null);
}

/** A piece of text and its surprise in nats, which may be null. */
export function shaded(piece, nats) {
  const shown = document.createElement("span");
  shown.textContent = piece;
  if (nats !== null) {
    shown.style.background = `rgb(200 80 30 / ${Math.min(0.8, nats / 8)})`;
    shown.title = `probability ${Math.exp(-nats).toPrecision(2)}, ${nats.toFixed(2)} nats`;
  }
  return shown;
}

export function append(...added) {
  $("read").append(...added);
  while ($("read").childElementCount > SHOWN) $("read").firstChild.remove();
  $("read").scrollTop = $("read").scrollHeight;
}

/** Mark a piece and tell its probability. */
function tell(piece) {
  told?.classList.remove("told");
  told = piece;
  told?.classList.add("told");
  told?.scrollIntoView({ block: "nearest" });
  $("probability").textContent = told?.title ? `${JSON.stringify(told.textContent)}: ${told.title}` : "";
}

$("read").onclick = ({ target }) => target.title && tell(target);
$("read").onkeydown = (event) => {
  const way = { ArrowLeft: "previousSibling", ArrowRight: "nextSibling" }[event.key];
  const other = told?.isConnected ? told[way] : $("read").lastChild;
  if (!way || !other?.title) return;
  event.preventDefault();
  tell(other);
};
