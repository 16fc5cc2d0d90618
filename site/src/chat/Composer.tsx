import { ArrowUp, ListPlus, Square } from "lucide-react";
import { type KeyboardEvent, type ReactNode, useRef, useState } from "react";
import { Button } from "../ui/Button.tsx";
import { useDraft } from "./drafts.ts";

type ComposerProps = {
  /** Whose draft it is. */
  draftKey: string;
  isBusy: boolean;
  isStopping?: boolean;
  disabled?: boolean;
  placeholder: string;
  /** Resolves once the server has taken the message; it stays in the field until then, and if it throws. */
  onSend: (text: string, how: "queue" | "interrupt") => Promise<void>;
  onStop?: () => void;
  onEditLast?: () => void;
  children?: ReactNode;
};

const HINT = "Enter sends, Shift+Enter begins a new line";

/** Where one writes. While an answer is under way a message is queued, or sent at once in its place. */
export function Composer(props: ComposerProps) {
  const { draftKey, isBusy, isStopping = false, disabled = false, placeholder, onSend, onStop, children } = props;
  const [text, setText] = useDraft(draftKey);
  const [isSending, setSending] = useState(false);
  const field = useRef<HTMLTextAreaElement>(null);
  const canSend = text.trim() !== "" && !isSending && !disabled;
  const send = async (how: "queue" | "interrupt") => {
    if (!canSend) return;
    setSending(true);
    try {
      await onSend(text, how);
      setText("");
    } catch {
      // it was told; the text stays to be sent again
    }
    setSending(false);
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.nativeEvent.isComposing) return;
    const deed = deedOf(event, text, props);
    if (!deed) return;
    event.preventDefault();
    if (deed === "stop") onStop?.();
    else if (deed === "edit") props.onEditLast?.();
    else void send(deed);
  };
  return (
    <div className="rounded-2xl border border-field bg-page shadow-sm focus-within:border-accent">
      <textarea
        ref={field}
        aria-label="Message"
        title={HINT}
        // biome-ignore lint/a11y/noAutofocus: on this page one writes
        autoFocus
        rows={1}
        disabled={disabled}
        readOnly={isSending}
        placeholder={placeholder}
        value={text}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKeyDown}
        className="field-sizing-content block max-h-[40dvh] min-h-11 w-full resize-none bg-transparent px-4 pb-1 pt-3 outline-none"
      />
      <div className="flex flex-wrap items-center justify-end gap-2 p-2 pt-0">
        <div className="mr-auto flex min-w-0 items-center gap-2 text-sm">{children}</div>
        {isBusy && canSend && (
          <Button title="Stop the answer, and send this now" onClick={() => void send("interrupt")}>
            Send now
          </Button>
        )}
        {isBusy && onStop && (
          <Button disabled={isStopping} onClick={onStop}>
            <Square size={13} aria-hidden fill="currentColor" />
            {isStopping ? "Stopping …" : "Stop"}
          </Button>
        )}
        {(!isBusy || canSend) && (
          <Button look="main" disabled={!canSend} onClick={() => void send("queue")}>
            {isBusy ? <ListPlus size={16} aria-hidden /> : <ArrowUp size={16} aria-hidden />}
            {isBusy ? "Queue" : "Send"}
          </Button>
        )}
      </div>
    </div>
  );
}

type Deed = "queue" | "interrupt" | "stop" | "edit" | null;

function deedOf(event: KeyboardEvent, text: string, { isBusy, onEditLast, onStop }: ComposerProps): Deed {
  if (event.key === "Enter" && !event.shiftKey) return event.ctrlKey || event.metaKey ? "interrupt" : "queue";
  if (event.key === "Escape" && isBusy && onStop) return "stop";
  if (event.key === "ArrowUp" && text === "" && onEditLast) return "edit";
  return null;
}
