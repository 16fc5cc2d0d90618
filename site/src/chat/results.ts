import { useMemo } from "react";
import type { ChatView, Part } from "../client/index.ts";
import type { Answered } from "./ToolCall.tsx";

/** What came of the calls, by their IDs. */
export type Results = ReadonlyMap<string, Answered>;

/** The results that are there. Those of history are not looked for again with each word of an answer. */
export function useResults({ messages, preview }: Pick<ChatView, "messages" | "preview">): Results {
  const settled = useMemo(() => messages.flatMap(({ parts, created_at }) => resultsIn(parts, created_at)), [messages]);
  const isPlain = !preview.some(({ type }) => type === "tool_result");
  const growing = isPlain ? NONE : preview;
  return useMemo(() => new Map([...settled, ...resultsIn(growing, null)]), [settled, growing]);
}

const NONE: ChatView["preview"] = [];

function resultsIn(parts: readonly Part[], at: string | null): [string, Answered][] {
  return parts.flatMap((part) => (part.type === "tool_result" ? [[part.call_id, { result: part, at }]] : []));
}
