import { CircleCheck, CircleX, Hourglass, LoaderCircle, Wrench } from "lucide-react";
import type { Part } from "../client/index.ts";

export type Call = Extract<Part, { type: "tool_call" }>;
export type Result = Extract<Part, { type: "tool_result" }>;

type ToolCallProps = { call: Call; result?: Result | undefined; isActive?: boolean; isAsked?: boolean };

/** A call of a tool: its name and state; what it was called with and what came of it, folded. */
export function ToolCall({ call, result, isActive = false, isAsked = false }: ToolCallProps) {
  const state = stateOf(result, isActive, isAsked);
  return (
    <details className="my-2 rounded-xl border border-line bg-side text-sm">
      <summary className="flex min-h-9 items-center gap-2 px-3 py-1.5">
        <Wrench size={15} aria-hidden className="shrink-0 text-soft" />
        <span className="foreign min-w-0 flex-1 truncate font-mono">{call.name}</span>
        <span className={`flex items-center gap-1 ${state.look}`}>
          <state.Icon size={15} aria-hidden className={state.Icon === LoaderCircle ? "turning" : ""} />
          {state.words}
        </span>
      </summary>
      <div className="flex flex-col gap-2 border-t border-line px-3 py-2">
        <Block title="Arguments" text={readable(call.arguments)} />
        {result && <Block title={result.is_error ? "Error" : "Result"} text={textOfResult(result)} />}
      </div>
      {!result && call.progress && <Progress {...call.progress} />}
    </details>
  );
}

function stateOf(result: Result | undefined, isActive: boolean, isAsked: boolean) {
  if (result?.is_error) return { Icon: CircleX, words: "failed", look: "text-bad" };
  if (result) return { Icon: CircleCheck, words: "done", look: "text-good" };
  if (isAsked) return { Icon: Hourglass, words: "waits for you", look: "text-warn" };
  if (isActive) return { Icon: LoaderCircle, words: "running", look: "text-soft" };
  return { Icon: CircleX, words: "no result", look: "text-soft" };
}

const SHOWN_MAX = 50_000;

function Block({ title, text }: { title: string; text: string }) {
  return (
    <div>
      <p className="text-xs font-semibold text-soft">{title}</p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
      <pre tabIndex={0} className="foreign max-h-72 overflow-auto whitespace-pre-wrap font-mono text-[0.9em]">
        {text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}\n… ${text.length - SHOWN_MAX} more characters` : text}
      </pre>
    </div>
  );
}

function Progress({ progress, total, message }: NonNullable<Call["progress"]>) {
  return (
    <div className="flex items-center gap-2 border-t border-line px-3 py-1.5 text-xs text-soft">
      <progress value={progress} max={total ?? undefined} aria-label="Progress" className="h-1.5 w-32 accent-accent" />
      <span className="foreign">{message ?? (total ? `${progress} of ${total}` : progress)}</span>
    </div>
  );
}

/** Arguments are JSON that may still be growing. */
function readable(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json || "…";
  }
}

export function textOfResult({ content }: Result): string {
  const text = typeof content === "string" ? content : content.map(textOfPart).join("\n");
  return text || "(nothing)";
}

/** What is no text is told, not loaded: a tool's result is as foreign as an answer. */
function textOfPart(part: Part): string {
  if (part.type === "text") return part.text;
  if (part.type === "json") return readable(part.json);
  if (part.type === "image") return `[an image: ${part.media_type}]`;
  if (part.type === "resource") return part.text ?? `[${part.name ?? "resource"}: ${part.uri}]`;
  return "";
}
