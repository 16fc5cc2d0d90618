/**
 * One chat that is open: its view, and what one does with it.
 *
 * Order of things: `hydrate` with a page of history (from a cache, then a fresh one), then a stream from the view's
 * cursor on, whose events go to `apply`. Another chat is another object: nothing of one shows in the other.
 *
 * A chat may have others work for it. Once it shows a call for such an agent its stream is that of its family, and the
 * view of each agent is kept beside its own, by the agent's ID.
 */

import type { Api } from "./api.ts";
import { Store } from "./store.ts";
import { applied, type ChatView, EMPTY_VIEW, extended, hydrated, type Page } from "./view.ts";
import type { Chat, ChatEvent, Content, Message, Part, Queued } from "./wire.ts";

export const PAGE_MESSAGES = 50;

export type Sent = { chat: Chat; message?: Message; queued?: Queued };
export type Busy = "queue" | "interrupt";

/** The tools by which a model has others work for it. */
export const AGENT_TOOLS: ReadonlySet<string> = new Set([
  "spawn_agent",
  "wait_agent",
  "list_agents",
  "message_agent",
  "interrupt_agent",
  "close_agent",
]);

export type Agents = ReadonlyMap<string, ChatView>;

export class OpenChat {
  readonly api: Api;
  readonly id: string;
  readonly view = new Store<ChatView>(EMPTY_VIEW);
  /** The agents of the chat, and theirs. */
  readonly agents = new Store<Agents>(new Map());
  /** Where the stream goes on: a place in the chat, or in its family. */
  cursor = "";
  /** Whether the chat was seen to have agents: from then on its stream is its family's. */
  hasAgents = false;
  private loading: Promise<void> | null = null;

  constructor(api: Api, id: string) {
    this.api = api;
    this.id = id;
  }

  /** The newest page of history, oldest message first. */
  async page(signal?: AbortSignal): Promise<Page> {
    return inOrder(await this.api.get<Page>(this.at("messages"), { before: "latest", limit: PAGE_MESSAGES }, signal));
  }

  /** Take a page in; see `hydrated`. It is shown at once. */
  hydrate(page: Page): void {
    const before = this.view.now;
    this.view.set(hydrated(before, page));
    this.view.flush();
    if (before.status === "") this.cursor = this.view.now.cursor;
    this.hasAgents ||= page.messages.some(({ parts }) => parts.some(isOfAgents));
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

  /** Take an event in: of the chat, or of an agent. */
  apply(cursor: string, event: ChatEvent & { chat_id?: string }): void {
    this.cursor = cursor || this.cursor;
    const { chat_id: id } = event;
    if (id !== undefined && id !== this.id) {
      const view = applied(this.agents.now.get(id) ?? EMPTY_VIEW, "", event);
      this.agents.set(new Map(this.agents.now).set(id, view));
      return;
    }
    const before = this.view.now;
    this.view.set(applied(before, cursor, event));
    // Who goes on with a chat is told at once: that is rare, and a frame may take long where words come fast. What is
    // still told anew from its beginning waits for its end.
    if (before.ready && before.handover !== this.view.now.handover) this.view.flush();
    this.hasAgents ||= namesAgents(event);
  }

  /** The server does not know the cursor: all is told anew. */
  forget(): void {
    this.cursor = "";
    this.view.set({ ...EMPTY_VIEW, resets: this.view.now.resets + 1 });
    this.agents.set(new Map());
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

const isOfAgents = (part: Part): boolean => part.type === "tool_call" && AGENT_TOOLS.has(part.name);

function namesAgents(event: ChatEvent): boolean {
  if (event.type === "part") return isOfAgents(event.part);
  if (event.type === "message") return event.message.parts.some(isOfAgents);
  return event.type === "action_required" && event.calls.some(({ chat_id }) => chat_id !== undefined);
}

/** What is asked for with `before` comes newest first. */
function inOrder(page: Page): Page {
  return { ...page, messages: [...page.messages].sort((one, other) => one.id - other.id) };
}
