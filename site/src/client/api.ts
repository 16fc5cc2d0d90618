/**
 * Requests to the API of a cluster, with typed answers.
 *
 * `new Api()` speaks to the page's own origin by its session cookie; `new Api({ baseUrl, token })` to any other. An
 * answer that is an error is an `ApiError` with the server's code; a request that got no answer, or no whole one, or one
 * of something else than a cluster (a network's sign-in page, say), is an `ApiError` with the code `unreachable`. A `POST` about chats has an `Idempotency-Key`, so that it is repeated safely: once, when the
 * connection broke or a replica is leaving. All other writes are tried once: the server does not know them again.
 */

import { type Answered, type Progress, sent } from "./upload.ts";
import type { FileInfo } from "./wire.ts";

export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly retryAfterMs: number | null;
  /** What else the server says, by name: a limit, say, and when it is over. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    status: number,
    code: string,
    message: string,
    retryAfterMs: number | null = null,
    details: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
    this.details = details;
  }

  /** Whether the same request may well succeed in a moment. */
  get isTransient(): boolean {
    return PASSING.has(this.status) || (this.status >= 500 && !LASTING.has(this.status));
  }
}

/** No answer, or one that came too late, too early, too often. Proxies have codes of their own for servers that are away. */
const PASSING: ReadonlySet<number> = new Set([0, 408, 425, 429]);
const LASTING: ReadonlySet<number> = new Set([501, 505]);

/** A body that is JSON already: its numbers may have more digits than JavaScript keeps. */
export class JsonText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type ApiOptions = { baseUrl?: string; token?: string; fetch?: typeof fetch };
export type Query = Record<string, string | number | boolean | null | undefined>;

const REQUEST_MS_MAX = 30_000;
const REPEAT_MS = 300;
/** Routes that honour an `Idempotency-Key`. */
const HAS_KEYS = /^\/chats(\/|$)/;

export class Api {
  readonly baseUrl: string;
  private readonly token: string | undefined;
  private readonly fetch: typeof fetch;
  private readonly hasOwnFetch: boolean;
  private readonly refusalListeners = new Set<(error: ApiError) => void>();

  constructor(options: ApiOptions = {}) {
    this.baseUrl = `${(options.baseUrl ?? "").replace(/\/$/, "")}/api/v1`;
    this.token = options.token;
    this.hasOwnFetch = options.fetch !== undefined;
    this.fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
    return this.request<T>("GET", path + queryString(query), undefined, signal);
  }

  /** With the `key` of an earlier try, what that one did is not done again. For routes of chats. */
  post<T>(path: string, body?: unknown, key?: string, signal?: AbortSignal): Promise<T> {
    if (!HAS_KEYS.test(path)) return this.request<T>("POST", path, body, signal);
    return this.repeated<T>(path, body, key ?? randomKey(), signal);
  }

  patch<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    return this.request<T>("PATCH", path, body, signal);
  }

  put<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
    return this.request<T>("PUT", path, body, signal);
  }

  delete(path: string, signal?: AbortSignal): Promise<void> {
    return this.request<void>("DELETE", path, undefined, signal);
  }

  /** Send a file to be sent along with a message. Tried once: one that no message has goes away by itself. */
  async upload(file: Blob, name: string, progress: Progress = {}): Promise<FileInfo> {
    const answer = await this.sent(`/files${queryString({ name })}`, file, progress);
    if (answer.status >= 300) throw this.told(refusalOf(answer));
    return parsed<FileInfo>(answer.text);
  }

  /** Where a file can be had, by whoever may read it here. */
  fileUrl(id: string): string {
    return `${this.baseUrl}/files/${encodeURIComponent(id)}`;
  }

  /** Hear of each answer that says no, whoever asked. Returns how to stop that. */
  onRefusal(listener: (error: ApiError) => void): () => void {
    this.refusalListeners.add(listener);
    return () => void this.refusalListeners.delete(listener);
  }

  /** A response that goes on as a stream. Throws `ApiError` for any status but 200 and 201. */
  async open(path: string, cursor: string, signal: AbortSignal): Promise<Response> {
    const headers = new Headers({ ...this.headers(), Accept: "text/event-stream" });
    if (cursor) headers.set("Last-Event-ID", cursor);
    const response = await this.send(path, { headers, signal, cache: "no-store" });
    if (!response.ok) throw await this.refused(response);
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw somethingElse();
    return response;
  }

  private async repeated<T>(path: string, body: unknown, key: string, signal?: AbortSignal): Promise<T> {
    try {
      return await this.request<T>("POST", path, body, signal, key);
    } catch (error) {
      if (!(error instanceof ApiError && error.isTransient && error.status !== 429)) throw error;
      await new Promise((resolve) => setTimeout(resolve, REPEAT_MS));
      return await this.request<T>("POST", path, body, signal, key);
    }
  }

  private async request<T>(
    method: string,
    path: string,
    body: unknown,
    signal?: AbortSignal,
    key?: string,
  ): Promise<T> {
    const headers = new Headers(this.headers());
    if (body !== undefined) headers.set("Content-Type", "application/json");
    if (key) headers.set("Idempotency-Key", key);
    const timeout = AbortSignal.timeout(REQUEST_MS_MAX);
    const response = await this.send(path, {
      method,
      headers,
      body: body instanceof JsonText ? body.text : body === undefined ? null : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    if (!response.ok) throw await this.refused(response);
    const text = await reached(response.text(), signal);
    return (text ? parsed<T>(text) : undefined) as T;
  }

  private send(path: string, init: RequestInit): Promise<Response> {
    return reached(this.fetch(this.baseUrl + path, { credentials: "same-origin", ...init }), init.signal);
  }

  private async sent(path: string, file: Blob, progress: Progress): Promise<Answered> {
    const headers = { ...this.headers(), "Content-Type": "application/octet-stream" };
    if (typeof XMLHttpRequest === "undefined" || this.hasOwnFetch) {
      const signal = progress.signal ?? null;
      return answered(await this.send(path, { method: "POST", headers, body: file, signal }));
    }
    try {
      return await sent(this.baseUrl + path, headers, file, progress);
    } catch (error) {
      if (progress.signal?.aborted) throw error;
      throw unreachable();
    }
  }

  private async refused(response: Response): Promise<ApiError> {
    return this.told(refusalOf(await answered(response)));
  }

  private told(error: ApiError): ApiError {
    for (const listener of this.refusalListeners) listener(error);
    return error;
  }

  private headers(): Record<string, string> {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }
}

const unreachable = () => new ApiError(0, "unreachable", "The server cannot be reached.");
const somethingElse = () => new ApiError(0, "unreachable", "Something else than chatcluster answered.");

/** What breaks on the way is `unreachable`; whoever gave it up is told that. */
async function reached<T>(answer: Promise<T>, signal?: AbortSignal | null): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (signal?.aborted && (signal.reason as Error)?.name !== "TimeoutError") throw error;
    throw unreachable();
  }
}

function parsed<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch {
    throw somethingElse();
  }
}

async function answered(response: Response): Promise<Answered> {
  const text = await response.text().catch(() => "");
  return { status: response.status, text, retryAfter: response.headers.get("Retry-After") };
}

function refusalOf({ status, text, retryAfter }: Answered): ApiError {
  const seconds = Number(retryAfter ?? Number.NaN);
  const retryAfterMs = seconds >= 0 ? seconds * 1000 : null;
  const { code, message, ...details } = errorIn(text);
  return new ApiError(
    status,
    typeof code === "string" ? code : "http_error",
    typeof message === "string" ? message : `The server answered ${status}.`,
    retryAfterMs,
    details,
  );
}

/** What a refusal of ours says. In a proxy's page there is nothing: its status says all there is to know. */
function errorIn(text: string): Record<string, unknown> {
  try {
    const { error } = JSON.parse(text) as { error: unknown };
    return typeof error === "object" && error !== null ? { ...error } : {};
  } catch {
    return {};
  }
}

export function queryString(query: Query): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : "";
}

/** `crypto.randomUUID` exists on HTTPS and localhost alone. */
export function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
