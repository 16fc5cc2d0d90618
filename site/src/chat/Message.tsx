import { Brain, ChevronRight, Pencil } from "lucide-react";
import { memo, type ReactNode, useState } from "react";
import {
  type ActionCall,
  AGENT_TOOLS,
  contentOf,
  type FilePart,
  filesIn,
  type Notice,
  type OpenChat,
  type Part,
  type Reasoning,
  type Message as Said,
  textOf,
  thought,
} from "../client/index.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { rowsOf } from "../ui/Field.tsx";
import { isComposing, isTouch } from "../ui/keys.ts";
import { tokensOf } from "../ui/money.ts";
import { ahead, laterPart } from "../ui/parts.tsx";
import { duration, Time } from "../ui/Time.tsx";
import { sayError } from "../ui/Toast.tsx";
import { Answer } from "./Answer.tsx";
import { CopyButton } from "./CopyButton.tsx";
import { keepEdit, keptEdit } from "./drafts.ts";
import type { Results } from "./results.ts";
import { WithSignInLink } from "./SignInLink.tsx";
import { Sources } from "./Sources.tsx";
import { ToolCall } from "./ToolCall.tsx";

const AgentCall = laterPart("an agent", async () => (await import("./AgentCall.tsx")).default);
const Summary = laterPart("a summary", async () => (await import("./Summary.tsx")).default);
const Files = laterPart("the files", async () => (await import("./Files.tsx")).default);
const KeptFiles = ahead(laterPart("the files", async () => (await import("./Files.tsx")).KeptFiles));

/** By which a summary is told: it is no tool. */
const SUMMARY_CALL = "chat_summarized";

type MessageProps = {
  message: Said;
  chat: OpenChat;
  results: Results;
  /** Calls of this message that somebody has to decide on. */
  asked: readonly ActionCall[];
  isLast: boolean;
  isActive: boolean;
  canEdit: boolean;
  isEditing: boolean;
  onEdit: (id: number | null) => void;
};

export const Message = memo(function Message(props: MessageProps) {
  const { message } = props;
  if (message.role === "user") return <UserMessage {...props} />;
  if (message.role === "system") return <SystemMessage message={message} />;
  if (message.role === "tool") return null; // its results stand with their calls
  return <AssistantMessage {...props} />;
});

type FrameProps = { label: string; isLast: boolean; className?: string; children: ReactNode };

/** One message, which the arrow keys go to. */
function Frame({ label, isLast, className = "", children }: FrameProps) {
  return (
    <article
      aria-label={label}
      data-message
      tabIndex={isLast ? 0 : -1}
      className={`group scroll-mt-4 rounded-xl ${className}`}
    >
      {children}
    </article>
  );
}

function UserMessage({ message, chat, isLast, canEdit, isEditing, onEdit }: MessageProps) {
  const text = textOf(message.parts);
  const files = filesIn(message.parts);
  if (isEditing) return <Editor chat={chat} id={message.id} text={text} files={files} onClose={() => onEdit(null)} />;
  return (
    <Frame label="You" isLast={isLast} className="flex flex-col items-end">
      {files.length > 0 && <Files files={files} className="mb-1 max-w-[85%] justify-end" />}
      {(text || files.length === 0) && (
        <div className="foreign max-w-[85%] whitespace-pre-wrap rounded-2xl rounded-br-md bg-tint px-4 py-2">
          {text}
        </div>
      )}
      <Foot at={message.created_at} text={text}>
        {canEdit && (
          <IconButton label="Edit message" onClick={() => onEdit(message.id)}>
            <Pencil size={15} aria-hidden />
          </IconButton>
        )}
      </Foot>
    </Frame>
  );
}

const ENDS: Record<string, string> = {
  interrupted: "Stopped here.",
  length: "Cut at the model's limit of length.",
  content_filter: "Withheld by the provider's content filter.",
};

function AssistantMessage({ message, results, asked, isLast, isActive }: MessageProps) {
  const end = ENDS[message.finish_reason ?? ""];
  const text = textOf(message.parts);
  const isStep = !text && message.parts.some(({ type }) => type === "tool_call"); // the cards of its calls say it all
  return (
    <Frame label="Assistant" isLast={isLast}>
      <Parts parts={message.parts} at={message.created_at} results={results} asked={asked} isActive={isActive} />
      {end && <p className="mt-1 text-sm text-soft">{end}</p>}
      {!isStep && (
        <Foot at={message.created_at} text={text}>
          {message.model && <span className="foreign px-1">{message.model}</span>}
          {message.usage?.output_tokens != null && (
            <span className="px-1" title={`Tokens: ${tokensOf(message.usage)}`}>
              {message.usage.output_tokens} tokens
            </span>
          )}
        </Foot>
      )}
    </Frame>
  );
}

type PartsProps = {
  parts: readonly Part[];
  /** When they went into history; nothing as long as they grow. */
  at?: string;
  results: Results;
  asked: readonly ActionCall[];
  isActive: boolean;
  isStreaming?: boolean;
};

/** What an answer is made of, in order. Parts that are not known here are passed over. */
export function Parts({ parts, at: askedAt, results, asked, isActive, isStreaming = false }: PartsProps) {
  return parts.map((part, at) => {
    const isGrowing = isStreaming && at === parts.length - 1;
    const key = `${at} ${part.type}`;
    if (part.type === "text") return <Answer key={key} text={part.text} isStreaming={isGrowing} />;
    if (part.type === "reasoning" && parts[at - 1]?.type !== "reasoning")
      return <Thoughts key={key} pieces={run(parts, at, "reasoning")} isGrowing={isGrowing} />;
    if (part.type === "source" && parts[at - 1]?.type !== "source")
      return <Sources key={key} sources={run(parts, at, "source")} />;
    if (part.type !== "tool_call") return null;
    const kind = asked.find((call) => call.call_id === part.id)?.kind;
    const answered = results.get(part.id);
    const shown = { call: part, isActive, isGrowing, ...(kind && { waitsFor: kind }), ...(askedAt && { askedAt }) };
    const all = { ...shown, ...(answered && { answered }) };
    const Card = AGENT_TOOLS.has(part.name) ? AgentCall : part.name === SUMMARY_CALL ? Summary : null;
    const plain = <ToolCall key={key} {...all} />;
    return Card ? <Card key={key} {...all} meanwhile={plain} /> : plain;
  });
}

/** The parts of a type that stand together from this place on. */
function run<T extends Part["type"]>(parts: readonly Part[], from: number, type: T): Extract<Part, { type: T }>[] {
  const end = parts.findIndex((part, at) => at > from && part.type !== type);
  return parts
    .slice(from, end < 0 ? parts.length : end)
    .filter((part): part is Extract<Part, { type: T }> => part.type === type);
}

/** What the turn goes on without; each is told once, also if a further replica says it again. */
export function Notices({ notices }: { notices: readonly Notice[] }) {
  return [...new Set(notices.map(({ message }) => message))].map((text) => (
    <p key={text} className="foreign my-1 text-sm text-soft">
      <WithSignInLink text={text} />
    </p>
  ));
}

function Thoughts({ pieces, isGrowing }: { pieces: readonly Reasoning[]; isGrowing: boolean }) {
  const { duration_ms: durationMs } = thought(pieces);
  const ended = durationMs ? `Thought for ${duration(durationMs)}` : "Thought";
  return (
    <details className="group/thoughts my-2 text-sm text-soft">
      <summary className="inline-flex min-h-7 items-center gap-1.5 rounded-lg">
        <ChevronRight size={15} aria-hidden className="group-open/thoughts:rotate-90" />
        <Brain size={15} aria-hidden />
        {isGrowing ? "Thinking …" : ended}
      </summary>
      <div className="foreign mt-1 whitespace-pre-wrap border-l-2 border-line pl-3">
        {pieces.map((piece) => piece.text).join("\n\n")}
      </div>
    </details>
  );
}

function SystemMessage({ message }: { message: Said }) {
  return (
    <details className="rounded-xl border border-line px-3 py-1.5 text-sm text-soft">
      <summary className="min-h-6">Instructions to the model</summary>
      <div className="foreign mt-1 whitespace-pre-wrap">{textOf(message.parts)}</div>
    </details>
  );
}

function Foot({ at, text, children }: { at: string; text: string; children?: ReactNode }) {
  return (
    <div
      // How long ago it was changes by itself.
      aria-live="off"
      className="flex min-h-8 flex-wrap items-center text-xs text-soft opacity-0 transition-opacity group-focus-within:opacity-100 group-hover:opacity-100 group-focus:opacity-100 pointer-coarse:opacity-100"
    >
      {text && <CopyButton text={text} label="Copy message" />}
      {children}
      <span className="px-1">
        <Time at={at} />
      </span>
    </div>
  );
}

type EditorProps = { chat: OpenChat; id: number; text: string; files: readonly FilePart[]; onClose: () => void };

/**
 * A message of the user's as it is edited. What follows it is replaced by a new answer. What is written is kept as a draft
 * is: a history that is told anew, another chat and a reload leave it.
 */
export function Editor({ chat, id, text: before, files: had, onClose }: EditorProps) {
  const [text, setText] = useState(() => keptEdit(chat.id, id) || before);
  const [files, setFiles] = useState(had);
  const [isBusy, setBusy] = useState(false);
  const canSave = (text.trim() !== "" || files.length > 0) && !isBusy;
  const change = (next: string) => {
    setText(next);
    keepEdit(chat.id, id, next === before ? "" : next);
  };
  const close = () => {
    keepEdit(chat.id, id, "");
    onClose();
  };
  const save = async () => {
    if (!canSave) return;
    setBusy(true);
    try {
      await chat.edit(id, contentOf(text, files));
      close();
    } catch (error) {
      sayError("Edit", error);
      setBusy(false);
    }
  };
  return (
    <div className="flex flex-col gap-2 rounded-2xl bg-tint p-3">
      {files.length > 0 && <KeptFiles files={files} onChange={setFiles} />}
      <textarea
        aria-label="Edit message"
        // biome-ignore lint/a11y/noAutofocus: the one who pressed Edit wants to write
        autoFocus
        rows={rowsOf(text)}
        className="field-sizing-content max-h-[50dvh] w-full resize-none rounded-lg border border-field bg-page px-3 py-2"
        value={text}
        onChange={(event) => change(event.target.value)}
        onKeyDown={(event) => {
          if (isComposing(event.nativeEvent)) return;
          if (event.key === "Escape") {
            event.preventDefault();
            close();
          } else if (event.key === "Enter" && !event.shiftKey && !isTouch()) {
            event.preventDefault();
            void save();
          }
        }}
      />
      <div className="flex flex-wrap items-center justify-end gap-2">
        <span className="mr-auto text-sm text-soft">What follows is replaced by a new answer.</span>
        <Button look="plain" onClick={close}>
          Cancel
        </Button>
        <Button look="main" disabled={!canSave} onClick={() => void save()}>
          Send
        </Button>
      </div>
    </div>
  );
}
