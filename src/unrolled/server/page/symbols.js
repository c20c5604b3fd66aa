// The symbols of a text model, by what the server says of them.

export class Symbols {
  constructor({ level, symbols, bytes }) {
    this.level = level;
    this.pieces = symbols; // null where a symbol is no whole character
    this.parts = bytes;
    this.numbers = new Map(symbols.map((piece, symbol) => [piece, symbol]));
    this.oneByOne = ["char", "byte"].includes(level); // a symbol for each character or byte
  }

  /** Those of a text where each character, or byte, is one; else none. */
  of(piece) {
    if (!this.oneByOne) return [];
    if (this.level === "byte") return [...new TextEncoder().encode(piece)];
    return [...piece].map((character) => this.numbers.get(character) ?? -1);
  }

  /** What to say of a character that is none of them. */
  unknown(character) {
    const number = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    const count = this.pieces.length.toLocaleString();
    return `the character '${character}' (U+${number}) is not one of the ${count} that the model knows.`;
  }

  bytesOf(symbol) {
    const piece = this.pieces[symbol];
    return piece === null ? Uint8Array.from(this.parts[symbol]) : new TextEncoder().encode(piece);
  }

  /** A symbol as it can be seen. */
  named(symbol) {
    const piece = this.pieces[symbol];
    if (piece !== null) return JSON.stringify(piece).slice(1, -1).replaceAll('\\"', '"').replaceAll(" ", "␣");
    return this.parts[symbol].map((byte) => `0x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(" ");
  }
}
