/**
 * The files of a draft: each is uploaded when it is chosen, and goes with the message once it is there. An upload goes
 * on while another chat is shown; what has come is kept in this browser with the draft, over reloads.
 *
 *   waiting → sending → there
 *                     ↘ failed → waiting (again)
 *
 * The server keeps a file that no message has for a day, and tells only when it is asked: `check` asks for those that
 * were kept here, and what is gone is `failed`.
 */

import { ApiError, type FileInfo, Store } from "../client/index.ts";
import { api } from "../server.ts";
import { decimal } from "../ui/numbers.ts";
import { say } from "../ui/Toast.tsx";
import { keepDraft, keptDraft } from "./drafts.ts";

export type Attachment = {
  key: number;
  name: string;
  size: number;
  state: "waiting" | "sending" | "there" | "failed";
  /** How much of it was sent. */
  fraction: number;
  /** Why it failed. */
  problem: string;
  /** As the server knows it, once it is there. */
  file: FileInfo | null;
};

export const GONE = "It is not kept any more. Attach it again.";
const FILES_MAX = 50;
const AT_ONCE = 2;

type Room = { file_bytes_max: number };
let room: Promise<Room> | null = null;

/** How large a file may be; unknown where it cannot be asked: then the server refuses what is too large. */
async function bytesMax(): Promise<number> {
  room ??= api.get<Room>("/files", { limit: 1 });
  try {
    return (await room).file_bytes_max;
  } catch {
    room = null;
    return Number.POSITIVE_INFINITY;
  }
}

export class Attachments {
  readonly shown: Store<readonly Attachment[]>;
  private readonly sources = new Map<number, File>();
  private readonly uploads = new Map<number, AbortController>();
  private lastKey = 0;
  private readonly draft: string;

  constructor(draft: string) {
    this.draft = draft;
    const there = parsed(keptDraft(`files.${draft}`)).map((file) =>
      this.entry(file.name, file.size_bytes, "there", file),
    );
    this.shown = new Store<readonly Attachment[]>(there);
    if (there.length) void this.check();
  }

  add(files: readonly File[]): void {
    const free = FILES_MAX - this.shown.now.length;
    if (files.length > free) say(`At most ${FILES_MAX} files go with a message.`);
    const added = files.slice(0, Math.max(0, free)).map((source) => {
      const entry = this.entry(source.name || "file", source.size, "waiting", null);
      this.sources.set(entry.key, source);
      return entry;
    });
    this.set([...this.shown.now, ...added]);
    this.next();
  }

  /** Try a failed one again. */
  again(key: number): void {
    if (this.sources.has(key)) this.change(key, { state: "waiting", fraction: 0, problem: "" });
    this.next();
  }

  remove(key: number): void {
    const entry = this.shown.now.find((one) => one.key === key);
    this.forget(key);
    // The server would remove it within a day; a draft in another tab may have it, and then its message keeps it.
    if (entry?.file) void api.delete(`/files/${entry.file.id}`).catch(() => {});
    this.set(this.shown.now.filter((one) => one.key !== key));
    this.next();
  }

  /** These went with a message. What was added since then stays. */
  sent(files: readonly Attachment[]): void {
    const gone = new Set(files.map(({ key }) => key));
    for (const key of gone) this.forget(key);
    this.set(this.shown.now.filter(({ key }) => !gone.has(key)));
  }

  /** Nobody wants them any more. */
  clear(): void {
    this.sent(this.shown.now);
  }

  /** Ask whether the server still has those that are there. */
  async check(): Promise<void> {
    for (const { key, file } of this.shown.now) {
      if (!file) continue;
      try {
        await api.get(`/files/${file.id}/metadata`);
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 404)) return; // it is told when it is sent
        this.change(key, { state: "failed", file: null, problem: GONE });
      }
    }
  }

  private forget(key: number): void {
    this.uploads.get(key)?.abort();
    this.uploads.delete(key);
    this.sources.delete(key);
  }

  private next(): void {
    while (this.uploads.size < AT_ONCE) {
      const waiting = this.shown.now.find(({ state }) => state === "waiting");
      if (!waiting) return;
      void this.upload(waiting.key, this.sources.get(waiting.key) as File);
    }
  }

  private async upload(key: number, source: File): Promise<void> {
    const upload = new AbortController();
    this.uploads.set(key, upload);
    this.change(key, { state: "sending" });
    try {
      const max = await bytesMax();
      if (source.size > max) throw new Error(`It has ${bytes(source.size)}; a file may have ${bytes(max)}.`);
      const onProgress = (fraction: number) => this.change(key, { fraction });
      const file = await api.upload(source, source.name, { signal: upload.signal, onProgress });
      this.change(key, { state: "there", fraction: 1, name: file.name, file });
    } catch (error) {
      this.change(key, { state: "failed", problem: sentence((error as Error).message) });
    }
    if (this.uploads.get(key) === upload) this.uploads.delete(key);
    this.next();
  }

  private entry(name: string, size: number, state: Attachment["state"], file: FileInfo | null): Attachment {
    return { key: ++this.lastKey, name, size, state, fraction: 0, problem: "", file };
  }

  /** What is not there any more is not changed: it was removed meanwhile. */
  private change(key: number, some: Partial<Attachment>): void {
    this.set(this.shown.now.map((one) => (one.key === key ? { ...one, ...some } : one)));
  }

  private set(entries: readonly Attachment[]): void {
    this.shown.set(entries);
    const there = entries.flatMap(({ file }) => file ?? []);
    keepDraft(`files.${this.draft}`, there.length ? JSON.stringify(there) : "");
  }
}

/** What was kept; nothing of what is not a list of files. */
function parsed(text: string): FileInfo[] {
  try {
    const found: unknown = JSON.parse(text || "[]");
    return Array.isArray(found)
      ? found.filter((file) => typeof file?.id === "string" && typeof file.name === "string")
      : [];
  } catch {
    return [];
  }
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

const UNITS = ["B", "kB", "MB", "GB"];

/** A size as people read it. */
export function bytes(count: number): string {
  let at = 0;
  let value = count;
  while (value >= 1024 && at < UNITS.length - 1) {
    value /= 1024;
    at++;
  }
  return `${at > 0 && value < 10 ? decimal(value, 1) : Math.round(value)} ${UNITS[at]}`;
}

const all = new Map<string, Attachments>();

/** Those of a chat, or of `new`. */
export function attachmentsOf(draft: string): Attachments {
  const found = all.get(draft) ?? new Attachments(draft);
  all.set(draft, found);
  return found;
}

/** Nothing of them is shown any more; what is there already is kept for the same user. */
export function putAttachmentsAway(): void {
  all.clear();
}

/** Whoever signs in next at this browser sends none of them. */
export function forgetAttachments(): void {
  for (const attachments of all.values()) attachments.clear();
  all.clear();
}
