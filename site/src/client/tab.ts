/**
 * The one stream of a tab: the list of chats, and the chat that is open, under one cursor `<list>~<chat>`.
 *
 * A browser allows six connections to a host over HTTP/1.1, so a page has one stream, whatever it shows. To show
 * another chat the stream is opened anew: the list's half of the cursor stays, the chat's half is that of its view.
 * A chat that has agents is followed with its family, from the moment on at which that is seen, at the same place.
 * `pause` and `resume` are for tabs that nobody sees.
 */

import type { Api, ApiError } from "./api.ts";
import type { OpenChat } from "./chat.ts";
import { Store } from "./store.ts";
import { follow, SILENCE_MS, type StreamState } from "./stream.ts";
import type { Chat, ChatEvent, DiffStatus } from "./wire.ts";

export type Connection = { state: StreamState | "idle"; error: ApiError | null };

/** A change in the list: the chat as it is now; or what has changed in its workspace; or neither, if it is `deleted`. */
export type ListChange = { change: string; chatId: string; chat: Chat | null; diff: DiffStatus | null };

export type TabOptions = {
  api: Api;
  onList: (change: ListChange) => void;
  /** What the list missed cannot be told: read it again. */
  onListReset: () => void;
};

type ListEvent = { type: string; change?: string; chat_id?: string; chat?: Chat; diff_status?: DiffStatus };

export class Tab {
  readonly connection = new Store<Connection>({ state: "idle", error: null });
  private chat: OpenChat | null = null;
  private listCursor = "";
  private isPaused = false;
  private isWanted = false;
  private followsFamily = false;
  private over = new AbortController();
  private readonly options: TabOptions;

  constructor(options: TabOptions) {
    this.options = options;
  }

  /** Follow the list, and this chat with it. */
  show(chat: OpenChat | null): void {
    const isRefused = this.connection.get().state === "refused";
    if (this.isWanted && chat === this.chat && !isRefused) return;
    this.chat = chat;
    this.isWanted = true;
    this.restart();
  }

  /** Follow the list alone, unless nothing is followed any more. */
  leave(): void {
    if (this.isWanted) this.show(null);
  }

  /** Follow nothing any more. */
  close(): void {
    this.isWanted = false;
    this.chat = null;
    this.listCursor = "";
    this.restart();
  }

  pause(): void {
    this.isPaused = true;
    this.restart();
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.restart();
  }

  /** Try at once, also what was refused. */
  restart(): void {
    this.over.abort();
    if (!this.isWanted || this.isPaused) {
      this.tell("idle", null);
      return;
    }
    this.over = new AbortController();
    const { chat } = this;
    this.followsFamily = chat?.hasAgents ?? false;
    void follow(
      {
        api: this.options.api,
        path: chat ? `/watch?chat=${chat.id}${chat.hasAgents ? "&family=true" : ""}` : "/watch",
        cursor: () => this.cursor(chat),
        onCursorLost: () => this.lost(chat),
        silenceMs: () => (isBusy(chat) ? BUSY_SILENCE_MS : SILENCE_MS),
        onEvent: (id, event) => this.take(chat, id, event as ListEvent),
        onState: (state, error) => this.onState(chat, state, error),
      },
      this.over.signal,
    );
  }

  private cursor(chat: OpenChat | null): string {
    if (!chat) return "";
    const place = chat.cursor;
    return this.listCursor || place ? `${this.listCursor}~${place}` : "";
  }

  private lost(chat: OpenChat | null): void {
    this.listCursor = "";
    chat?.forget();
    this.options.onListReset();
  }

  private onState(chat: OpenChat | null, state: StreamState, error: ApiError | null): void {
    // Without a chat the stream has no cursor: what happened in between is not told.
    if (state === "live" && (!chat || this.listCursor === "")) this.options.onListReset();
    this.tell(state, error);
  }

  private tell(state: Connection["state"], error: ApiError | null): void {
    this.connection.set({ state, error });
    this.connection.flush();
  }

  private take(chat: OpenChat | null, id: string, event: ListEvent): void {
    const mark = id.indexOf("~");
    if (mark > 0) this.listCursor = id.slice(0, mark);
    if (event.type === "list_reset") this.options.onListReset();
    else if (event.type === "chat" || !chat) this.takeList(event);
    else {
      chat.apply(mark < 0 ? "" : id.slice(mark + 1), event as ChatEvent);
      if (chat.hasAgents && !this.followsFamily) this.restart();
    }
  }

  private takeList(event: ListEvent): void {
    const chatId = event.chat_id ?? event.chat?.id;
    if (!chatId) return;
    const { chat = null, diff_status: diff = null } = event;
    this.options.onList({ change: event.change ?? event.type, chatId, chat, diff });
  }
}

/** Where an answer is waited for, one missed heartbeat is enough: its replica may be frozen, and another one answers. */
const BUSY_SILENCE_MS = 20_000;

function isBusy(chat: OpenChat | null): boolean {
  const status = chat?.view.now.status;
  return status === "pending" || status === "running" || status === "interrupting";
}

/** Whoever waits to connect again tries at once when the network is back. Returns how to stop that. */
export function reconnectWhenOnline(tab: Tab, page: Window): () => void {
  const look = () => {
    if (tab.connection.get().state === "reconnecting") tab.restart();
  };
  page.addEventListener("online", look);
  return () => page.removeEventListener("online", look);
}

const HIDDEN_MS = 30_000;

/**
 * Pause the tab's stream when the page was hidden for 30 s, as it may be from its beginning on, and at once when the browser
 * puts it away to come back to it later. It goes on when it is seen. Returns how to stop that.
 */
export function pauseWhileHidden(tab: Tab, page: Document, hiddenMs = HIDDEN_MS): () => void {
  const over = new AbortController();
  let pending: ReturnType<typeof setTimeout> | undefined;
  const look = () => {
    clearTimeout(pending);
    if (page.visibilityState === "hidden") pending = setTimeout(() => tab.pause(), hiddenMs);
    else tab.resume();
  };
  const { signal } = over;
  page.addEventListener("visibilitychange", look, { signal });
  page.defaultView?.addEventListener("pagehide", () => tab.pause(), { signal });
  page.defaultView?.addEventListener("pageshow", look, { signal });
  look();
  return () => {
    clearTimeout(pending);
    over.abort();
  };
}
