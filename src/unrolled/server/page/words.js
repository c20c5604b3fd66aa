// The panel of label models that read words: a sentence, and the tag of each of its words.

import { $ } from "./elements.js";
import { anew, stream } from "./work.js";

export function show() {
  anew(async () => {
    const words = $("words").value.split(/\s+/).filter(Boolean);
    const said = words.length ? await stream.read(words) : [];
    $("tags").replaceChildren(...words.map((word, place) => {
      const shown = document.createElement("span");
      const tag = document.createElement("small");
      tag.textContent = said[place];
      shown.append(word, " ", tag);
      return shown;
    }));
  });
}

$("words").oninput = show;
