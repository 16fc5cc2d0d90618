import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import { readPage } from "../ahead.ts";
import { type ChatView, type Connection, OpenChat, type Page, type Store } from "../client/index.ts";
import { api, tab } from "../server.ts";

let leaving: ReturnType<typeof setTimeout> | undefined;
const LEAVE_MS = 300;

/** The tab's stream follows this chat, or the list alone, until another page asks for something else. */
function show(chat: OpenChat | null): void {
  clearTimeout(leaving);
  tab.show(chat);
}

function leave(): void {
  clearTimeout(leaving);
  leaving = setTimeout(() => tab.leave(), LEAVE_MS);
}

/** For pages without a chat: the list is kept up to date. */
export function useListAlone(): void {
  useEffect(() => show(null), []);
}

/** A view without what changes with each word of an answer. */
export type Quiet = Omit<ChatView, "cursor" | "preview" | "outputs" | "progress">;

export type Opened = { chat: OpenChat; view: Quiet; page: UseQueryResult<Page> };

/**
 * A chat that is shown: the page of history that is cached at once, then a fresh one, then the stream from there on.
 * Another chat is another object, so nothing of the one before is left.
 */
export function useOpenChat(id: string): Opened {
  const chat = useMemo(() => new OpenChat(api, id), [id]);
  const page = useQuery({
    queryKey: ["messages", id],
    queryFn: ({ signal }) => readPage(id, signal),
    staleTime: 0,
    refetchOnMount: "always",
  });
  useEffect(() => {
    if (!page.data) return;
    chat.hydrate(page.data);
    show(chat);
  }, [chat, page.data]);
  useEffect(() => leave, []);
  const view = useSelected(chat.view, asItIs, areQuiet);
  return { chat, view, page };
}

const asItIs = (view: ChatView): Quiet => view;

const EACH_WORD: ReadonlySet<string> = new Set(["cursor", "preview", "outputs", "progress"]);

/** Whether nothing but words came in between. */
export function areQuiet(one: Quiet, other: Quiet): boolean {
  return (Object.keys(one) as (keyof Quiet)[]).every((name) => EACH_WORD.has(name) || one[name] === other[name]);
}

/** What one wants of a store, the same object for as long as it is the same: only then something is shown anew. */
export function useSelected<T, S>(store: Store<T>, select: (value: T) => S, areSame: (one: S, other: S) => boolean): S {
  const last = useRef<{ of: T; is: S } | null>(null);
  return useSyncExternalStore(store.subscribe, () => {
    const of = store.get();
    if (last.current?.of === of) return last.current.is;
    const is = select(of);
    last.current = { of, is: last.current && areSame(last.current.is, is) ? last.current.is : is };
    return last.current.is;
  });
}

export function useConnection(): Connection {
  return useSyncExternalStore(tab.connection.subscribe, tab.connection.get);
}
