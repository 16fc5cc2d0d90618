/**
 * Server-sent events out of a response's body, each once it has come whole.
 *
 * An event that the connection broke in the middle of is not told: its ID was not seen, so it comes again. Lines end in
 * LF, CRLF or CR, wherever the pieces are cut. Comments (heartbeats) are no events, but signs of life.
 */

export type ServerEvent = { id: string; type: string; data: string };

/** Takes pieces of text and calls `emit` for each event that is complete. */
export class EventParser {
  private rest = "";
  private id = "";
  private type = "";
  private data: string[] = [];
  private readonly emit: (event: ServerEvent) => void;

  constructor(emit: (event: ServerEvent) => void) {
    this.emit = emit;
  }

  push(piece: string): void {
    const text = this.rest + piece;
    let start = 0;
    // Of the rest no more than its last character may end a line, a CR that may be half of a CRLF: a long line that comes
    // in many pieces is not gone through anew with each.
    for (let end = lineEnd(text, Math.max(0, this.rest.length - 1)); end >= 0; end = lineEnd(text, start)) {
      this.line(text.slice(start, end));
      start = end + (text[end] === "\r" && text[end + 1] === "\n" ? 2 : 1);
    }
    this.rest = text.slice(start);
  }

  private line(line: string): void {
    if (line === "") {
      this.dispatch();
      return;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.data.push(value);
    else if (field === "event") this.type = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
  }

  private dispatch(): void {
    const { id, type, data } = this;
    this.type = "";
    this.data = [];
    if (data.length > 0) this.emit({ id, type: type || "message", data: data.join("\n") });
  }
}

function lineEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    if (text[at] === "\n") return at;
    if (text[at] === "\r") return at + 1 < text.length ? at : -1;
  }
  return -1;
}
