/**
 * A file on its way to the server, with how much of it has gone: `fetch` does not tell that, so a browser's
 * `XMLHttpRequest` sends it. Where there is none (Node), it is sent by `fetch`, without progress.
 *
 * An upload takes as long as it takes; one of which nothing moves for a minute is given up.
 */

export type Progress = { signal?: AbortSignal; onProgress?: (fraction: number) => void };
export type Answered = { status: number; text: string; retryAfter: string | null };

const STILL_MS_MAX = 60_000;

/** Sends it, and resolves with whatever is answered. Rejects with what `signal` was aborted for, or with an `Error`. */
export function sent(url: string, headers: Record<string, string>, file: Blob, progress: Progress): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const { signal, onProgress } = progress;
    const request = new XMLHttpRequest();
    let still = setTimeout(() => request.abort(), STILL_MS_MAX);
    const leave = () => request.abort();
    const over = () => {
      clearTimeout(still);
      signal?.removeEventListener("abort", leave);
    };
    const failed = () => {
      over();
      reject(signal?.aborted ? signal.reason : new Error("the upload broke off"));
    };
    request.upload.onprogress = ({ loaded, total }) => {
      clearTimeout(still);
      still = setTimeout(() => request.abort(), STILL_MS_MAX);
      if (total > 0) onProgress?.(loaded / total);
    };
    request.onload = () => {
      over();
      const retryAfter = request.getResponseHeader("Retry-After");
      resolve({ status: request.status, text: request.responseText, retryAfter });
    };
    request.onerror = failed;
    request.onabort = failed;
    if (signal?.aborted) return failed();
    signal?.addEventListener("abort", leave);
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.send(file);
  });
}
