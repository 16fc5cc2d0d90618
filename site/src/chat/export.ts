/** A chat as a file: all its messages, read page by page from the API, as Markdown for people or as JSON. */

import type { Chat, Message, Page, Part } from "../client/index.ts";
import { api } from "../server.ts";
import { textOfResult } from "./ToolCall.tsx";

const PAGE_MESSAGES = 500;

export async function exportChat(chat: Chat, form: "markdown" | "json"): Promise<void> {
  const messages = await history(chat.id);
  const name =
    chat.title
      .replace(/[^\p{L}\p{N} _-]+/gu, "")
      .trim()
      .slice(0, 60) || "chat";
  if (form === "json") download(`${name}.json`, "application/json", JSON.stringify({ chat, messages }, null, 2));
  else download(`${name}.md`, "text/markdown", markdown(chat, messages));
}

async function history(id: string): Promise<Message[]> {
  const messages: Message[] = [];
  for (;;) {
    const after = messages.at(-1)?.id ?? 0;
    const page = await api.get<Page>(`/chats/${id}/messages`, { after, limit: PAGE_MESSAGES });
    messages.push(...page.messages);
    if (!page.has_more || !page.messages.length) return messages;
  }
}

const SPEAKERS: Record<string, string> = { user: "You", assistant: "Assistant", system: "System", tool: "Tool" };

export function markdown(chat: Chat, messages: readonly Message[]): string {
  const blocks = messages.map((message) => {
    const heading = `## ${SPEAKERS[message.role] ?? message.role}, ${message.created_at}`;
    return [heading, ...message.parts.map(block).filter(Boolean)].join("\n\n");
  });
  return `${[`# ${chat.title}`, ...blocks].join("\n\n")}\n`;
}

function block(part: Part): string {
  if (part.type === "text") return part.text;
  if (part.type === "source") return `Source: ${part.title ? `${part.title} ` : ""}<${part.url}>`;
  if (part.type === "file") return `[a file: ${part.name.replace(/[[\]]/g, "")}]`;
  if (part.type === "tool_call") return fenced(`${part.name}(${part.arguments})`);
  if (part.type === "tool_result") return fenced(textOfResult(part));
  return "";
}

/** With a fence that is longer than any in the text. */
function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text}\n${fence}`;
}

function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
