// The server as the page reaches it: its addresses, and streams on it.

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(method, path, body, type = "application/json") {
  const headers = body === undefined ? {} : { "Content-Type": type };
  const token = document.getElementById("token").value;
  if (token) headers.Authorization = `Bearer ${token}`;
  const content = type === "application/json" ? JSON.stringify(body) : body;
  const answer = await fetch(path, { method, headers, body: content, keepalive: method === "DELETE" }).catch(() => {
    throw new Error("The server does not answer.");
  });
  if (answer.ok) return answer;
  const found = await answer.json().catch(() => null);
  throw new Refused(answer.status, found?.error?.message ?? `The server answered ${answer.status}.`);
}

/** A stream on the server, made for its first inputs and deleted when the page has done with it. */
export class Stream {
  constructor(model) {
    this.model = model.name;
    this.made = null; // its address, once the server has it
    this.closed = false;
    this.position = 0;
  }

  /** What the server answers, unless the page has done with the stream meanwhile. */
  async ask(method, rest, ...content) {
    this.made ??= ask("POST", "streams", { model: this.model }).then((answer) => answer.json())
      .then(({ id }) => `streams/${id}`);
    const answer = await ask(method, (await this.made) + rest, ...content);
    if (this.closed) throw new Error("This stream is out of date.");
    return answer;
  }

  /** Consume inputs (a text, symbols, words, rows of numbers, samples), or bytes in the model's dtype.
   *
   * Returns the rows of logits, and what they say.
   */
  async feed(inputs) {
    const bytes = ArrayBuffer.isView(inputs);
    const rest = "/feed" + (bytes ? `?at=${this.position}` : "");
    const body = bytes ? inputs : { at: this.position, inputs };
    const answer = await this.ask("POST", rest, body, bytes ? "application/octet-stream" : undefined);
    const found = await answer.json();
    this.position = found.position;
    return found;
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
