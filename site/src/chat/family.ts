/** The chat that is open, for what stands deep in it: its agents, and theirs. */

import { createContext, useCallback, useContext, useSyncExternalStore } from "react";
import type { CallOutput, ChatView, OpenChat, Part, ToolProgress } from "../client/index.ts";

export const Family = createContext<OpenChat | null>(null);

const NEVER = () => () => {};

/** An agent as the stream tells it; nothing of it is there before its first event. */
export function useAgent(id: string | null): ChatView | null {
  const chat = useContext(Family);
  const now = useCallback(() => (id && chat?.agents.get().get(id)) || null, [chat, id]);
  return useSyncExternalStore(chat?.agents.subscribe ?? NEVER, now);
}

type Told = Pick<ChatView, "outputs" | "progress">;

/** Where the messages that are shown here come from: that tells what their running calls tell of themselves. */
export type Telling = { subscribe: (listener: () => void) => () => void; get: () => Told };
export const Source = createContext<Telling | null>(null);

function useTold<T>(select: (told: Told) => T | undefined): T | null {
  const source = useContext(Source);
  return useSyncExternalStore(source?.subscribe ?? NEVER, () => (source && select(source.get())) ?? null);
}

/** What a running call has printed so far. */
export const useOutput = (callId: string): CallOutput | null => useTold(({ outputs }) => outputs[callId]);

/** How far a running call is, as far as it says. */
export const useProgress = (callId: string): ToolProgress | null => useTold(({ progress }) => progress[callId]);

export type AgentWords = { words: string; look: "busy" | "good" | "bad" | "warn" | "soft" };

/** How an agent is, in words. */
export function agentWords(view: ChatView | null): AgentWords {
  if (!view?.status) return { words: "begins", look: "busy" };
  if (view.archived) return { words: "closed", look: "soft" };
  if (view.status === "requires_action") return { words: "waits for you", look: "warn" };
  if (view.status === "error") return { words: "failed", look: "bad" };
  if (view.status === "interrupting") return { words: "is being stopped", look: "busy" };
  if (view.status !== "waiting") return { words: "at work", look: "busy" };
  return view.turn?.outcome === "interrupted" ? { words: "stopped", look: "soft" } : { words: "done", look: "good" };
}

/** What a call for agents was answered, or was called with: the words of others, of which nothing need be true. */
export function fieldsIn(json: string): { chat_id: string | null; title: string; error: string } {
  const found = objectIn(json);
  const text = (name: string) => textField(found, name);
  return { chat_id: ID.test(text("chat_id")) ? text("chat_id") : null, title: text("title"), error: text("error") };
}

/** One of its fields, if it is a text. */
export const fieldOf = (json: string, name: string): string => textField(objectIn(json), name);

const textField = (found: Record<string, unknown>, name: string) =>
  typeof found[name] === "string" ? found[name] : "";

function objectIn(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // it is still being written, or is no JSON
  }
  return {};
}

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The text of a result, as JSON is in it. */
export function textIn(content: string | readonly Part[]): string {
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : part.type === "json" ? part.json : "")).join("");
}
