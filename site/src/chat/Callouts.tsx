import { type ReactNode, useEffect, useState } from "react";
import { type ChatView, type Handover, type Message, type Retry, textOf } from "../client/index.ts";
import { Button } from "../ui/Button.tsx";
import { Notice } from "../ui/Notice.tsx";
import { useNow } from "../ui/Time.tsx";
import { focusComposer } from "./Composer.tsx";
import { useReplicaName } from "./replicas.ts";

type CalloutsProps = { view: ChatView; onTryAgain: (message: Message) => void };

/** How the turn goes, in words: whatever is not simply an answer that grows. */
export function Callouts({ view, onTryAgain }: CalloutsProps) {
  const asked = view.messages.findLast((message) => message.role === "user");
  return (
    <>
      {view.handover && (
        <Continued handover={view.handover} isResumed={view.resumed !== null} isOver={isResting(view)} />
      )}
      {view.retry && <Retrying key={view.retry.attempt} retry={view.retry} />}
      {!view.retry && <Waiting view={view} />}
      <Silence view={view} />
      {view.status === "error" && (
        <Notice
          tone="bad"
          role="alert"
          action={asked && !view.archived && <TryAgain onPress={() => onTryAgain(asked)} />}
        >
          The answer failed: {view.error?.message ?? "the server gave no reason"}
        </Notice>
      )}
    </>
  );
}

function TryAgain({ onPress }: { onPress: () => void }) {
  const press = ({ detail }: { detail: number }) => {
    onPress();
    if (detail === 0) focusComposer(); // by keyboard: the button goes away
  };
  return <Button onClick={press}>Try again</Button>;
}

const isResting = (view: ChatView) => view.status === "waiting" || view.status === "error";

type ContinuedProps = { handover: Handover; isResumed: boolean; isOver: boolean };

function Continued({ handover, isResumed, isOver }: ContinuedProps) {
  const name = useReplicaName(handover.workerId) ?? "another replica";
  const why = handover.cause === "drain" ? "Its replica was shut down" : "Its replica was lost";
  return (
    <Notice tone={isOver ? "info" : "good"} role="status">
      {why}: continued on <strong className="font-semibold">{name}</strong>
      {isResumed && ", at the very word"}.
    </Notice>
  );
}

function Retrying({ retry }: { retry: Retry }) {
  const now = useNow(250);
  const [since] = useState(now);
  // This machine's clock may be behind the server's: it does not take longer than it was to take.
  const at = Math.min(retry.retrying_at ? Date.parse(retry.retrying_at) : now, since + retry.delay_ms);
  const seconds = Math.max(0, Math.ceil((at - now) / 1000));
  const provider = retry.provider ? ` of ${retry.provider}` : "";
  const begins = retry.model ? `${retry.model} is asked instead.` : `Attempt ${retry.attempt + 1} begins.`;
  return (
    <Notice tone="warn" role="status">
      The model{provider} failed ({retry.error}). {/* the words are told once, not with every second */}
      <span aria-hidden>{seconds ? `Attempt ${retry.attempt + 1} in ${seconds} s.` : begins}</span>
      <span className="sr-only">{retry.model ? begins : "It is tried again."}</span>
    </Notice>
  );
}

const SILENT_MS = 8000;

/** Words that stopped coming: the model is silent, or what carries words live is away. The rest comes by itself. */
function Silence({ view }: { view: ChatView }): ReactNode {
  const [isLong, setLong] = useState(false);
  const last = view.preview.at(-1)?.type;
  const isExpected = view.status === "running" && (last === "text" || last === "reasoning");
  // biome-ignore lint/correctness/useExhaustiveDependencies: it begins anew with each word
  useEffect(() => {
    setLong(false);
    if (!isExpected) return;
    const waiting = setTimeout(() => setLong(true), SILENT_MS);
    return () => clearTimeout(waiting);
  }, [isExpected, view.preview]);
  if (!isLong) return null;
  return (
    <Notice tone="busy" role="status">
      Nothing has come for a while. The answer goes on as soon as there is more, and nothing of it is lost.
    </Notice>
  );
}

function Waiting({ view }: { view: ChatView }): ReactNode {
  const words = waitingWords(view);
  return words ? <Notice tone="busy">{words}</Notice> : null;
}

function waitingWords(view: ChatView): string {
  if (view.status === "interrupting") return "Stopping …";
  if (view.status === "pending") {
    if (view.cause === "takeover") return "Its replica was lost: another one takes over …";
    if (view.cause === "drain") return "Its replica is shutting down: another one takes over …";
    return "Waiting for a replica …";
  }
  const isSilent = textOf(view.preview) === "" && view.preview.length === 0;
  return view.status === "running" && isSilent && !runsCalls(view) ? "Thinking …" : "";
}

/** Whether calls are run: their cards say so. */
function runsCalls({ messages }: ChatView): boolean {
  const asked = messages.findLast(({ role }) => role !== "tool");
  const calls = asked?.parts.filter((part) => part.type === "tool_call") ?? [];
  if (!calls.length) return false;
  const after = messages.slice(messages.lastIndexOf(asked as Message)).flatMap(({ parts }) => parts);
  const answered = new Set(after.flatMap((part) => (part.type === "tool_result" ? [part.call_id] : [])));
  return calls.some(({ id }) => !answered.has(id));
}
