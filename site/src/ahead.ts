/** What the address asks for, read while the page itself is on its way. Whoever asks for it first has it, once. */

import { type Chat, OpenChat, type Page } from "./client/index.ts";
import { api, chatNow } from "./server.ts";

const ahead = new Map<string, Promise<unknown>>();

const CHAT = /^\/chats\/([^/]+)$/;

/** Begin to read the chat at this address. With a one-time code nobody is signed in yet: there is nothing to read. */
export function readAhead({ pathname, hash }: Location): void {
  const id = CHAT.exec(pathname)?.[1];
  if (!id || hash) return;
  begin(`messages ${id}`, newestPage(id));
  begin(`chat ${id}`, chatNow(id));
}

/** What failed is asked for again, by whoever wants it. */
function begin(name: string, reading: Promise<unknown>): void {
  ahead.set(name, reading);
  reading.catch(() => ahead.delete(name));
}

function taken<T>(name: string): Promise<T> | undefined {
  const reading = ahead.get(name);
  ahead.delete(name);
  return reading as Promise<T> | undefined;
}

const newestPage = (id: string, signal?: AbortSignal) => new OpenChat(api, id).page(signal);

/** The newest page of a chat's history. */
export const readPage = (id: string, signal?: AbortSignal): Promise<Page> =>
  taken<Page>(`messages ${id}`) ?? newestPage(id, signal);

/** What the API says of a chat. */
export const readChat = (id: string): Promise<Chat> => taken<Chat>(`chat ${id}`) ?? chatNow(id);
