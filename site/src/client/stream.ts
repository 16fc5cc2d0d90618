/**
 * One event stream that is followed for as long as it is wanted.
 *
 * A stream never ends cleanly: whatever ends it (a drain, a crash, silence for 45 s, which is three heartbeats), it is
 * opened anew after the last event that came whole, on whatever replica answers. States:
 *
 *   connecting → live ⇄ reconnecting → refused
 *
 * `refused` is for what repeating cannot mend (401, 403, 404, …); it is over then. A cursor that the server does not know
 * is dropped once. The first try after a break comes at once, the next after 250 ms, doubling to 10 s, with jitter; not
 * before the server says, as far as that is a minute. The pauses begin anew once a connection has held for a while: one
 * that opens and breaks at once, for whatever reason, is no storm of requests.
 */

import { type Api, ApiError } from "./api.ts";
import { EventParser } from "./sse.ts";

export type StreamState = "connecting" | "live" | "reconnecting" | "refused";

export type StreamOptions = {
  api: Api;
  path: string;
  /** Where to go on: the cursor of the last event that was taken in. */
  cursor: () => string;
  onEvent: (id: string, event: { type: string }) => void;
  onState: (state: StreamState, error: ApiError | null) => void;
  /** The cursor is of no use to the server: all is told anew. */
  onCursorLost?: () => void;
  /** After how long without a sign of life a connection is given up. */
  silenceMs?: () => number;
};

export const SILENCE_MS = 45_000;
const RETRY_MS = 250;
const RETRY_MS_MAX = 10_000;
const RETRY_AFTER_MS_MAX = 60_000;
const STEADY_MS = 2_000;

/** Follow a stream until the signal is aborted, or it is refused. Never throws. */
export async function follow(options: StreamOptions, signal: AbortSignal): Promise<void> {
  options.onState("connecting", null);
  for (let failures = 0; !signal.aborted; failures++) {
    let openedAt = Number.POSITIVE_INFINITY;
    const error = await once(options, signal, () => {
      openedAt = performance.now();
      options.onState("live", null);
    });
    if (signal.aborted) return;
    if (performance.now() - openedAt >= STEADY_MS) failures = 0;
    if (error.code === "invalid_cursor" && options.cursor()) {
      options.onCursorLost?.();
    } else if (!error.isTransient) {
      options.onState("refused", error);
      return;
    }
    options.onState("reconnecting", error);
    await pause(pauseMs(failures, error), signal);
  }
}

/** One connection, to its end. Returns what it died of. */
async function once(options: StreamOptions, signal: AbortSignal, onOpen: () => void): Promise<ApiError> {
  const connection = new AbortController();
  const end = () => connection.abort();
  signal.addEventListener("abort", end);
  const silence = timer(options.silenceMs ?? (() => SILENCE_MS), end);
  try {
    const response = await options.api.open(options.path, options.cursor(), connection.signal);
    onOpen();
    await read(response, options, silence.restart, connection.signal);
    return new ApiError(0, "unreachable", "The stream broke off.");
  } catch (error) {
    return error instanceof ApiError ? error : new ApiError(0, "unreachable", "The stream broke off.");
  } finally {
    silence.stop();
    signal.removeEventListener("abort", end);
    connection.abort();
  }
}

async function read(response: Response, options: StreamOptions, heard: () => void, signal: AbortSignal): Promise<void> {
  if (!response.body) return;
  const parser = new EventParser((event) => {
    if (!signal.aborted) options.onEvent(event.id, JSON.parse(event.data));
  });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  // Not every `fetch` ends a body with its request.
  signal.addEventListener("abort", () => void reader.cancel().catch(() => {}));
  for (;;) {
    const { done, value } = await reader.read();
    if (done || signal.aborted) return;
    heard();
    parser.push(decoder.decode(value, { stream: true }));
  }
}

function pauseMs(failures: number, error: ApiError): number {
  const asked = Math.min(RETRY_AFTER_MS_MAX, error.retryAfterMs ?? 0);
  if (failures === 0) return asked;
  const own = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
  return Math.max(asked, own);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms <= 0) return;
  await new Promise<void>((resolve) => {
    const wake = setTimeout(done, ms);
    function done() {
      clearTimeout(wake);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}

function timer(ms: () => number, onEnd: () => void): { restart: () => void; stop: () => void } {
  let pending = setTimeout(onEnd, ms());
  const stop = () => clearTimeout(pending);
  const restart = () => {
    stop();
    pending = setTimeout(onEnd, ms());
  };
  return { restart, stop };
}
