// The server as the page reaches it: its addresses, and streams on it.

import { $ } from "./elements.js";

const BYTES = "application/octet-stream";

/** What the server says instead of an answer; of status 0 if it says nothing. */
class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(method, path, body, headers = {}) {
  const bytes = ArrayBuffer.isView(body);
  const sent = body === undefined ? {} : { "Content-Type": bytes ? BYTES : "application/json" };
  const token = $("token").value.trim();
  if (/[^ -\xff]/.test(token)) throw new Refused(401, "The token has a character that no request can carry.");
  if (token) sent.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, {
    method,
    headers: { ...sent, ...headers },
    body: bytes ? body : JSON.stringify(body),
    keepalive: method === "DELETE",
  }).catch(() => {
    throw new Refused(0, "The server does not answer.");
  });
  if (answer.ok) return answer;
  const found = await answer.json().catch(() => null);
  throw new Refused(answer.status, found?.error?.message ?? `The server answered ${answer.status}.`);
}

/** A stream on the server, made for its first inputs and deleted when the page has done with it. */
export class Stream {
  constructor(model) {
    this.model = model;
    this.made = null; // its address, once the server has it
    this.closed = false;
    this.lost = false; // whether something went wrong, so that what it has read is not known
    this.position = 0;
  }

  /** What the server answers, unless the page has done with the stream meanwhile. */
  async ask(method, rest, ...content) {
    try {
      this.made ??= ask("POST", "streams", { model: this.model.name }).then((answer) => answer.json())
        .then(({ id }) => `streams/${id}`);
      const answer = await ask(method, (await this.made) + rest, ...content);
      if (this.closed) throw new Error("This stream is out of date.");
      return answer;
    } catch (error) {
      this.lost ||= error.status !== 422; // which is refused before it is read
      throw error;
    }
  }

  /** Consume inputs: a text, symbols, words, rows of numbers, samples, or bytes in the model's dtype. */
  async consume(inputs, choice, headers) {
    const bytes = ArrayBuffer.isView(inputs);
    const rest = "/feed" + (bytes ? `?at=${this.position}` : "");
    return this.ask("POST", rest, bytes ? inputs : { at: this.position, inputs, ...choice }, headers);
  }

  /** Consume inputs; returns the rows of logits. */
  async feed(inputs) {
    const answer = await this.consume(inputs, {}, { Accept: BYTES });
    const logits = new Float32Array(await answer.arrayBuffer());
    this.position = Number(answer.headers.get("X-Position"));
    const width = this.model.outputs;
    const count = logits.length / width;
    return Array.from({ length: count }, (_, row) => logits.subarray(row * width, (row + 1) * width));
  }

  /** Consume inputs; returns what the model says of each step. */
  async read(inputs) {
    const { position, said } = await (await this.consume(inputs, { outputs: false })).json();
    this.position = position;
    return said;
  }

  /** Consume inputs, and no more. */
  async skip(inputs) {
    const answer = await this.consume(inputs, { outputs: false, said: false });
    this.position = (await answer.json()).position;
  }

  /** The arrays of its state by name, each { shape, values }. */
  async state() {
    return safetensors(await (await this.ask("GET", "/state")).arrayBuffer());
  }

  close() {
    this.closed = true;
    this.made?.then((address) => ask("DELETE", address)).catch(() => {});
  }
}

/** The float32 arrays of a safetensors file. */
function safetensors(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets: place }] of Object.entries(header)) {
    if (dtype !== "F32") continue; // nor has what it says of itself any
    const [begin, end] = place.map((offset) => 8 + size + offset);
    arrays[name] = { shape, values: new Float32Array(buffer.slice(begin, end)) };
  }
  return arrays;
}
