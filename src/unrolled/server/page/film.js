// The panel of label models that read films: a film, frame by frame.

import { $ } from "./elements.js";
import * as events from "./events.js";
import { anew, model, stream } from "./work.js";

export function show() {
  const screen = $("screen");
  anew(async (stale) => {
    events.clear();
    $("seen").textContent = "";
    if (!$("film").files.length) return;
    await new Promise((done, failed) => {
      screen.onloadeddata = done;
      screen.onerror = () => failed(new Error("The browser cannot play this film."));
      screen.src = URL.createObjectURL($("film").files[0]);
    });
    const [height, width] = model.shape;
    const small = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    for (let time = 0; time < screen.duration && !stale(); time += 1 / model.reads.fps) {
      await new Promise((done) => {
        screen.onseeked = done;
        screen.currentTime = time + 1e-3; // which is of the frame that begins here
      });
      if (stale()) return;
      small.drawImage(screen, 0, 0, width, height);
      const { data } = small.getImageData(0, 0, width, height);
      events.add("", await stream.read(data.filter((_, place) => place % 4 < 3)));
      const end = Math.min(time + 1 / model.reads.fps, screen.duration);
      $("seen").textContent = `${end.toFixed(1)} of ${screen.duration.toFixed(1)} s`;
    }
  });
}

$("film").onchange = show;
