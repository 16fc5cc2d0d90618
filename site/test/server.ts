/** A server for tests: answers requests by path, and serves event streams that the test writes to. */

import { Api } from "../src/client/api.ts";

const encoder = new TextEncoder();

export class Stream {
  private controller!: ReadableStreamDefaultController<Uint8Array>;
  readonly response: Response;
  readonly path: string;
  readonly cursor: string | null;
  readonly signal: AbortSignal;

  constructor(path: string, cursor: string | null, signal: AbortSignal) {
    this.path = path;
    this.cursor = cursor;
    this.signal = signal;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.controller = controller;
      },
    });
    this.response = new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  /** Nobody hears it if the stream was left. */
  send(id: string, event: { type: string } & Record<string, unknown>): void {
    if (this.signal.aborted) return;
    this.controller.enqueue(encoder.encode(`id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`));
  }

  breakOff(): void {
    this.controller.close();
  }
}

export type Call = { method: string; path: string; body: unknown; key: string | null };

export class Server {
  readonly streams: Stream[] = [];
  readonly calls: Call[] = [];
  /** What came with the calls, to the letter. */
  readonly bodies: string[] = [];
  /** What a path answers; an `Error` is a connection that breaks. */
  readonly answers = new Map<string, () => unknown>();
  readonly api = new Api({ baseUrl: "http://test", fetch: (input, init) => this.fetch(String(input), init) });

  get stream(): Stream {
    return this.streams.at(-1) as Stream;
  }

  private async fetch(url: string, init: RequestInit = {}): Promise<Response> {
    const path = url.replace("http://test/api/v1", "");
    const headers = new Headers(init.headers);
    if (headers.get("Accept") === "text/event-stream") {
      const stream = new Stream(path, headers.get("Last-Event-ID"), init.signal as AbortSignal);
      this.streams.push(stream);
      return stream.response;
    }
    const body = init.body ? JSON.parse(String(init.body)) : undefined;
    if (init.body) this.bodies.push(String(init.body));
    this.calls.push({ method: init.method ?? "GET", path, body, key: headers.get("Idempotency-Key") });
    const answer = this.answers.get(`${init.method} ${path}`)?.();
    if (answer instanceof Error) throw answer;
    if (answer instanceof Response) return answer;
    return answer === undefined ? refused(404, "not_found") : new Response(JSON.stringify(answer));
  }
}

export const refused = (status: number, code: string) =>
  new Response(JSON.stringify({ error: { code, message: code } }), { status });

/** Everything that waits for nothing but promises has happened. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  await new Promise((resolve) => setTimeout(resolve, 0));
}
