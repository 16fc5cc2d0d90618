/**
 * One chat that is open: its view, and what one does with it.
 *
 * Order of things: `hydrate` with a page of history (from a cache, then a fresh one), then a stream from the view's
 * cursor on, whose events go to `apply`. Another chat is another object: nothing of one shows in the other.
 */

import type { Api } from "./api.ts";
import { Store } from "./store.ts";
import { applied, type ChatView, EMPTY_VIEW, extended, hydrated, type Page } from "./view.ts";
import type { Chat, ChatEvent, Content, Message, Queued } from "./wire.ts";

export const PAGE_MESSAGES = 50;

export type Sent = { chat: Chat; message?: Message; queued?: Queued };
export type Busy = "queue" | "interrupt";

export class OpenChat {
  readonly view: Store<ChatView>;
  private loading: Promise<void> | null = null;

  constructor(
    readonly api: Api,
    readonly id: string,
  ) {
    this.view = new Store(EMPTY_VIEW);
  }

  /** The newest page of history, oldest message first. */
  async page(signal?: AbortSignal): Promise<Page> {
    return inOrder(await this.api.get<Page>(this.at("messages"), { before: "latest", limit: PAGE_MESSAGES }, signal));
  }

  /** Take a page in; see `hydrated`. It is shown at once. */
  hydrate(page: Page): void {
    this.view.set(hydrated(this.view.now, page));
    this.view.flush();
  }

  /** Read the page before the first message here. One call at a time. */
  loadEarlier(): Promise<void> {
    this.loading ??= this.readEarlier().finally(() => {
      this.loading = null;
    });
    return this.loading;
  }

  private async readEarlier(): Promise<void> {
    const { messages, resets } = this.view.now;
    const before = messages[0]?.id;
    if (before === undefined) return;
    const page = inOrder(await this.api.get<Page>(this.at("messages"), { before, limit: PAGE_MESSAGES }));
    this.view.set(extended(this.view.now, page, resets));
    this.view.flush();
  }

  apply(cursor: string, event: ChatEvent): void {
    this.view.set(applied(this.view.now, cursor, event));
  }

  /** The server does not know the cursor: all is told anew. */
  forget(): void {
    this.view.set({ ...EMPTY_VIEW, resets: this.view.now.resets + 1 });
  }

  /** With the `key` of an earlier try, a message that arrived then is not sent again. */
  send(content: Content, busy: Busy = "queue", model?: string, key?: string): Promise<Sent> {
    return this.api.post(this.at("messages"), { content, busy, ...(model ? { model } : {}) }, key);
  }

  edit(messageId: number, content: Content): Promise<Sent> {
    return this.api.patch(this.at(`messages/${messageId}`), { content });
  }

  interrupt(): Promise<Chat> {
    return this.api.post(this.at("interrupt"));
  }

  deleteQueued(id: number): Promise<void> {
    return this.api.delete(this.at(`queue/${id}`));
  }

  promoteQueued(id: number): Promise<Sent> {
    return this.api.post(this.at(`queue/${id}/promote`));
  }

  editQueued(id: number, content: Content): Promise<{ queued: Queued }> {
    return this.api.patch(this.at(`queue/${id}`), { content });
  }

  private at(rest: string): string {
    return `/chats/${this.id}/${rest}`;
  }
}

/** What is asked for with `before` comes newest first. */
function inOrder(page: Page): Page {
  return { ...page, messages: [...page.messages].sort((one, other) => one.id - other.id) };
}
