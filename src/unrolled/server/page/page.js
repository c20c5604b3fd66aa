// The page of `unrolled serve`: what a served model makes of what one types, pastes, shows or says.
//
// The panel for a model has a stream of its own on the server, through the same addresses as any client, and draws
// what comes back. `#model=NAME&text=…` (or rows, words) in the address fills a panel in.

import { $ } from "./elements.js";
import * as film from "./film.js";
import * as rows from "./rows.js";
import { ask } from "./server.js";
import * as sound from "./sound.js";
import * as text from "./text.js";
import { hush, model, stream, tell, turnTo } from "./work.js";
import * as words from "./words.js";

// Each shows what the model makes of what stands in it; some go on by themselves until they are told to stop.
const PANELS = { "of-text": text, "of-rows": rows, "of-words": words, "of-film": film, "of-sound": sound };

function panelOf(one) {
  if (one.task === "text") return "of-text";
  if (one.task === "speech") return "of-sound";
  if (one.dtype === null) return "of-words";
  return one.shape.length === 3 ? "of-film" : "of-rows";
}

function show(one) {
  stop();
  turnTo(one);
  const panel = panelOf(one);
  const seen = [panel];
  if (panel === "of-rows" || panel === "of-film") seen.push(one.task === "forecast" ? "forecasts" : "events");
  for (const section of document.querySelectorAll("main > section")) section.hidden = !seen.includes(section.id);
  $("panel").hidden = false;
  PANELS[panel].show();
}

function stop() {
  for (const panel of Object.values(PANELS)) panel.stop?.();
}

async function begin() {
  try {
    const models = await (await ask("GET", "models")).json();
    hush();
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
    if (error.status === 401) $("token").focus();
  }
}

$("token").onchange = begin;
$("again").onclick = () => (model ? show(model) : begin());
addEventListener("keydown", ({ key }) => key === "Escape" && stop());
addEventListener("hashchange", begin);
addEventListener("pagehide", () => stream?.close());
addEventListener("pageshow", ({ persisted }) => persisted && model && show(model)); // whose stream is gone
begin();
