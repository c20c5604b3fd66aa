// The panel of speech models: they hear the microphone.

import { $ } from "./elements.js";
import { anew, hush, model, stream, tell, then } from "./work.js";

let source = null; // of the microphone, while it is heard
let rest = []; // its samples that have not gone on

export function show() {
  anew(() => {});
}

/** Stop listening. */
export function stop() {
  source?.mediaStream.getTracks().forEach((track) => track.stop()); // else the browser goes on recording
  source?.context.close();
  source = null;
  $("listen").textContent = "Listen";
}

async function listen() {
  if (source) return stop();
  try {
    const microphone = await given();
    source = sourceOf(microphone, model.reads.rate);
    const { context } = source;
    await context.audioWorklet.addModule("page/microphone.js");
    const node = new AudioWorkletNode(context, "microphone");
    source.connect(node);
    $("listen").textContent = "Stop";
    $("heard").textContent = "";
    rest = [];
    await anew(() => {});
    node.port.onmessage = ({ data }) => take(data, context.sampleRate, model.reads.rate);
  } catch (error) {
    tell(error);
  }
}

async function given() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the microphone to pages of their own machine alone, or over HTTPS.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch (error) {
    throw new Error(`The browser does not give the microphone: ${error.message}.`);
  }
}

/** What the microphone gives, at the model's rate if the browser resamples it. */
function sourceOf(microphone, rate) {
  try {
    return new AudioContext({ sampleRate: rate }).createMediaStreamSource(microphone);
  } catch {
    return new AudioContext().createMediaStreamSource(microphone);
  }
}

/** Take samples of the microphone's rate; every fifth of a second they go on, as means of those they stand for. */
function take(samples, from, rate) {
  rest.push(...samples);
  const count = Math.floor((rest.length * rate) / from);
  if (count < rate / 5) return;
  const ends = Array.from({ length: count + 1 }, (_, n) => Math.round((n * from) / rate));
  const mean = (begin, end) => rest.slice(begin, end).reduce((sum, one) => sum + one, 0) / (end - begin);
  const taken = ends.slice(1).map((end, n) => mean(ends[n], end));
  rest = rest.slice(ends[count]);
  then(() => hear(taken, rate));
}

async function hear(samples, rate) {
  const said = await stream.read(samples);
  hush(); // of samples that were lost
  $("heard").append(said.join(""));
  $("heard-for").textContent = `${(stream.position / rate).toFixed(1)} s`;
}

$("listen").onclick = listen;
