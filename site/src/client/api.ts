/**
 * Requests to the API of a cluster, with typed answers.
 *
 * `new Api()` speaks to the page's own origin by its session cookie; `new Api({ baseUrl, token })` to any other. An
 * answer that is an error is an `ApiError` with the server's code; a request that got no answer is an `ApiError` with
 * the code `unreachable`. Writes about chats have an `Idempotency-Key`, so that they are repeated safely: once, when the
 * connection broke or a replica is leaving.
 */

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** Whether the same request may well succeed in a moment. */
  get isTransient(): boolean {
    return this.status === 0 || this.status === 429 || (this.status >= 502 && this.status <= 504);
  }
}

export type ApiOptions = { baseUrl?: string; token?: string; fetch?: typeof fetch };
export type Query = Record<string, string | number | boolean | null | undefined>;

const REQUEST_MS_MAX = 30_000;
const REPEAT_MS = 300;

export class Api {
  readonly baseUrl: string;
  private readonly token: string | undefined;
  private readonly fetch: typeof fetch;

  constructor(options: ApiOptions = {}) {
    this.baseUrl = `${(options.baseUrl ?? "").replace(/\/$/, "")}/api/v1`;
    this.token = options.token;
    this.fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
    return this.request<T>("GET", path + queryString(query), undefined, signal);
  }

  post<T>(path: string, body?: unknown): Promise<T> {
    return this.write<T>("POST", path, body);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.write<T>("PATCH", path, body);
  }

  delete(path: string): Promise<void> {
    return this.write<void>("DELETE", path, undefined);
  }

  /** A response that goes on as a stream. Throws `ApiError` for any status but 200 and 201. */
  async open(path: string, cursor: string, signal: AbortSignal): Promise<Response> {
    const headers = new Headers({ ...this.headers(), Accept: "text/event-stream" });
    if (cursor) headers.set("Last-Event-ID", cursor);
    const response = await this.send(path, { headers, signal, cache: "no-store" });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  private async write<T>(method: string, path: string, body: unknown): Promise<T> {
    const key = randomKey();
    try {
      return await this.request<T>(method, path, body, undefined, key);
    } catch (error) {
      if (!(error instanceof ApiError && error.isTransient && error.status !== 429 && method === "POST")) throw error;
      await new Promise((resolve) => setTimeout(resolve, REPEAT_MS));
      return await this.request<T>(method, path, body, undefined, key);
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
    if (key && method === "POST") headers.set("Idempotency-Key", key);
    const timeout = AbortSignal.timeout(REQUEST_MS_MAX);
    const response = await this.send(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    if (!response.ok) throw await refusal(response);
    const text = await response.text();
    return (text ? JSON.parse(text) : undefined) as T;
  }

  private async send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await this.fetch(this.baseUrl + path, { credentials: "same-origin", ...init });
    } catch (error) {
      if (init.signal?.aborted && (init.signal.reason as Error)?.name !== "TimeoutError") throw error;
      throw new ApiError(0, "unreachable", "The server cannot be reached.");
    }
  }

  private headers(): Record<string, string> {
    return this.token ? { Authorization: `Bearer ${this.token}` } : {};
  }
}

async function refusal(response: Response): Promise<ApiError> {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1000 : null;
  let code = "http_error";
  let message = `The server answered ${response.status}.`;
  try {
    const { error } = JSON.parse(await response.text()) as { error: { code: string; message: string } };
    ({ code, message } = error);
  } catch {
    // a proxy's page: its status says all there is to know
  }
  return new ApiError(response.status, code, message, retryAfterMs);
}

export function queryString(query: Query): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : "";
}

/** `crypto.randomUUID` exists on HTTPS and localhost alone. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
