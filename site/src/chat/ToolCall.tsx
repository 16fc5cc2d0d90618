import { ChevronRight, CircleCheck, CircleX, Hourglass, LoaderCircle, Wrench } from "lucide-react";
import type { Part, ToolProgress } from "../client/index.ts";
import { Mark } from "../ui/Fold.tsx";
import { laterPart } from "../ui/parts.tsx";
import { duration } from "../ui/Time.tsx";
import { useOutput, useProgress } from "./family.ts";
import { indented, plain } from "./json.ts";
import { WithSignInLink } from "./SignInLink.tsx";

const Output = laterPart("the output", async () => (await import("../workspace/Output.tsx")).default);

export type Call = Extract<Part, { type: "tool_call" }>;
export type Result = Extract<Part, { type: "tool_result" }>;

/** What came of a call, and when; without a time as long as it is not in history. */
export type Answered = { result: Result; at: string | null };

export type ToolCallProps = {
  call: Call;
  /** When the model asked for it. */
  askedAt?: string;
  answered?: Answered;
  isActive?: boolean;
  /** Its arguments are still being written. */
  isGrowing?: boolean;
  /** Who has to do something: the kind of the action. */
  waitsFor?: string;
  /** Whom it is about, in words. */
  about?: string;
};

/** A call of a tool: its name, state and duration; what it was called with and what came of it, folded. */
export function ToolCall(props: ToolCallProps) {
  const { call, answered, isGrowing = false } = props;
  const result = answered?.result;
  const state = stateOf(props);
  return (
    <div className="my-2 overflow-hidden rounded-xl border border-line bg-side text-sm">
      <details className="group/call">
        <summary className="flex min-h-9 items-center gap-2 px-3 py-1.5">
          <ChevronRight size={15} aria-hidden className="shrink-0 text-soft group-open/call:rotate-90" />
          <Wrench size={15} aria-hidden className="shrink-0 text-soft max-sm:hidden" />
          <span className="foreign min-w-0 flex-1 truncate">
            <span className="font-mono">{call.name}</span>
            {props.about && <span className="text-soft"> {props.about}</span>}
          </span>
          <Mark Icon={state.Icon} look={state.look}>
            {state.words}
          </Mark>
          <Took {...props} />
        </summary>
        {isGrowing && call.arguments && (
          <p aria-hidden className="foreign truncate px-3 pb-1.5 font-mono text-xs text-soft" dir="ltr">
            {call.arguments.slice(-GROWING_SHOWN)}
          </p>
        )}
        <div className="flex flex-col gap-2 border-t border-line px-3 py-2">
          <Block title="Arguments" text={plain(readable(call.arguments))} />
          {result && <Block title={result.is_error ? "Error" : "Result"} text={textOfResult(result)} />}
        </div>
      </details>
      {!result && <SoFar callId={call.id} />}
    </div>
  );
}

/** How far it is and what it prints while it runs stand open: one waits for it. */
function SoFar({ callId }: { callId: string }) {
  const progress = useProgress(callId);
  const output = useOutput(callId);
  return (
    <>
      {progress && <Progress {...progress} />}
      {output && (
        <div className="border-t border-line">
          <Output output={output} />
        </div>
      )}
    </>
  );
}

const GROWING_SHOWN = 200;
const WAITS: Record<string, string> = {
  client: "waits for its program",
  approval: "waits for you",
  question: "waits for you",
  sign_in: "waits for you",
};

/** From when it was asked for until its result was there: what it waited for is part of that. */
function Took({ askedAt, answered }: ToolCallProps) {
  if (!askedAt || !answered?.at) return null;
  const ms = Math.max(0, Date.parse(answered.at) - Date.parse(askedAt));
  return <span className="text-soft tabular-nums">{duration(ms)}</span>;
}

function stateOf({ answered, isActive, isGrowing, waitsFor }: ToolCallProps) {
  if (answered?.result.is_error) return { Icon: CircleX, words: "failed", look: "text-bad" };
  if (answered) return { Icon: CircleCheck, words: "done", look: "text-good" };
  if (waitsFor) return { Icon: Hourglass, words: WAITS[waitsFor] ?? "waits", look: "text-warn" };
  if (isGrowing) return { Icon: LoaderCircle, words: "is asked for", look: "text-soft" };
  if (isActive) return { Icon: LoaderCircle, words: "running", look: "text-soft" };
  return { Icon: CircleX, words: "no result", look: "text-soft" };
}

const SHOWN_MAX = 50_000;

const shortened = (text: string) =>
  text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}\n… ${text.length - SHOWN_MAX} more characters` : text;

function Block({ title, text }: { title: string; text: string }) {
  return (
    <div>
      <p className="text-xs font-semibold text-soft">{title}</p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
      <pre tabIndex={0} className="foreign max-h-72 overflow-auto whitespace-pre-wrap font-mono text-[0.9em]">
        <WithSignInLink text={shortened(text)} />
      </pre>
    </div>
  );
}

function Progress({ progress, total, message }: ToolProgress) {
  return (
    <div className="flex items-center gap-2 border-t border-line px-3 py-1.5 text-xs text-soft">
      <progress value={progress} max={total ?? undefined} aria-label="Progress" className="h-1.5 w-32 accent-accent" />
      <span className="foreign">{message ?? (total ? `${progress} of ${total}` : progress)}</span>
    </div>
  );
}

/** Arguments are JSON that may still be growing. What is longer than all that is shown is not taken apart. */
function readable(json: string): string {
  if (json.length > SHOWN_MAX) return json;
  try {
    return indented(json);
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
