import { ArrowUp, ListPlus, Paperclip, Square } from "lucide-react";
import {
  type ClipboardEvent,
  type KeyboardEvent,
  type ReactNode,
  useLayoutEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import { type Content, contentOf } from "../client/index.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { pastedFiles, useFileDrop } from "../ui/drop.ts";
import { rowsOf } from "../ui/Field.tsx";
import { isComposing, isLayerOpen, isTouch, isWriting, useShortcuts } from "../ui/keys.ts";
import { ahead, laterPart } from "../ui/parts.tsx";
import { attachmentsOf } from "./attachments.ts";
import { useDraft } from "./drafts.ts";

const Attached = ahead(laterPart("the files", async () => (await import("./Attached.tsx")).default));

type ComposerProps = {
  /** Whose draft it is. */
  draftKey: string;
  isBusy: boolean;
  isStopping?: boolean;
  disabled?: boolean;
  placeholder: string;
  /** Resolves once the server has taken the message; it stays in the field until then, and if it throws. */
  onSend: (content: Content, how: "queue" | "interrupt") => Promise<void>;
  onStop?: () => void;
  onEditLast?: () => void;
  children?: ReactNode;
};

/** The field of the page, for what stands elsewhere and gives the focus back. */
export const focusComposer = (): void => document.getElementById(FIELD)?.focus();
const FIELD = "composer";
const HINT = "Enter sends, Shift+Enter begins a new line";

/** Where one writes. While an answer is under way a message is queued, or sent at once in its place. */
export function Composer(props: ComposerProps) {
  const { draftKey, isBusy, isStopping = false, disabled = false, placeholder, onSend, onStop, children } = props;
  const { text, change, sent } = useDraft(draftKey);
  const [isSending, setSending] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const attachments = attachmentsOf(draftKey);
  const files = useSyncExternalStore(attachments.shown.subscribe, attachments.shown.get);
  const there = files.flatMap(({ file }) => (file ? [{ file_id: file.id }] : []));
  const isThere = there.length === files.length;
  const isOver = useFileDrop((dropped) => attachments.add(dropped));
  const canSend = (text.trim() !== "" || files.length > 0) && isThere && !isSending && !disabled;
  const send = async (how: "queue" | "interrupt") => {
    if (!canSend) return;
    setSending(true);
    try {
      await onSend(contentOf(text, there), how);
      sent(text);
      attachments.sent(files);
    } catch {
      // it was told; all of it stays to be sent again, but for files that are gone meanwhile
      void attachments.check();
    }
    setSending(false);
    if (isHere(box.current)) field.current?.focus();
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: once, when it comes
  useLayoutEffect(() => {
    // On this page one writes; where a keyboard would rise over what is said, one reads first. It may come late.
    if (!(onStop && isTouch()) && !isElsewhere()) field.current?.focus();
  }, []);
  const unless = (target: EventTarget | null) => isWriting(target) || box.current?.closest("[inert]") != null;
  useShortcuts(isBusy && onStop ? [{ keys: "Escape", what: "Stop the answer", run: onStop, unless }] : []);
  const onKeyDown = (event: KeyboardEvent) => {
    if (isComposing(event.nativeEvent)) return;
    const deed = deedOf(event, text, props);
    if (!deed) return;
    event.preventDefault();
    if (deed === "stop") onStop?.();
    else if (deed === "edit") props.onEditLast?.();
    else void send(deed);
  };
  const onPaste = (event: ClipboardEvent) => {
    const pasted = pastedFiles(event.clipboardData);
    if (!pasted.length) return;
    event.preventDefault();
    attachments.add(pasted);
  };
  return (
    <div
      ref={box}
      className={`rounded-2xl border bg-page shadow-sm focus-within:border-accent ${isOver ? "border-accent" : "border-field"}`}
    >
      {isOver && <p className="px-4 pt-3 text-sm font-medium text-accent">Drop files to attach them</p>}
      {files.length > 0 && <Attached attachments={attachments} shown={files} disabled={isSending} />}
      <textarea
        ref={field}
        id={FIELD}
        aria-label="Message"
        title={HINT}
        rows={rowsOf(text)}
        disabled={disabled}
        readOnly={isSending}
        placeholder={placeholder}
        value={text}
        onChange={(event) => change(event.target.value)}
        onKeyDown={onKeyDown}
        onPaste={onPaste}
        className="field-sizing-content block max-h-[40dvh] min-h-11 w-full resize-none bg-transparent px-4 pb-1 pt-3 outline-hidden"
      />
      <div className="flex flex-wrap items-center justify-end gap-2 p-2 pt-0">
        <div className="mr-auto flex min-w-0 items-center gap-2 text-sm">
          <AttachButton disabled={disabled || isSending} onFiles={(chosen) => attachments.add(chosen)} />
          {children}
        </div>
        {isBusy && canSend && (
          <Button title="Stop the answer, and send this now" onClick={() => void send("interrupt")}>
            Send now
          </Button>
        )}
        {isBusy && onStop && (
          <Button
            disabled={isStopping}
            onClick={({ detail }) => {
              onStop();
              if (detail === 0) field.current?.focus(); // by keyboard: the button goes away
            }}
          >
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

/** Whether the focus is in here, or nowhere, as a button that is switched off loses it: whoever went on is left there. */
function isHere(box: HTMLElement | null): boolean {
  const { activeElement } = document;
  return activeElement === null || activeElement === document.body || box?.contains(activeElement) === true;
}

/** Whether one writes somewhere else, or has opened something, while this was loaded. */
const isElsewhere = (): boolean => isWriting(document.activeElement) || isLayerOpen();

type AttachProps = { disabled: boolean; onFiles: (files: readonly File[]) => void };

/** What a file is, the server tells from its bytes: here anything may be chosen. */
function AttachButton({ disabled, onFiles }: AttachProps) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <IconButton label="Attach files" disabled={disabled} onClick={() => input.current?.click()}>
        <Paperclip size={17} aria-hidden />
      </IconButton>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        aria-label="Files"
        onChange={(event) => {
          onFiles([...(event.target.files ?? [])]);
          event.target.value = ""; // the same file may be chosen again
        }}
      />
    </>
  );
}

type Deed = "queue" | "interrupt" | "stop" | "edit" | null;

function deedOf(event: KeyboardEvent, text: string, { isBusy, onEditLast, onStop }: ComposerProps): Deed {
  if (event.key === "Enter" && !event.shiftKey) {
    if (event.ctrlKey || event.metaKey) return "interrupt";
    return isTouch() ? null : "queue";
  }
  if (event.key === "Escape" && isBusy && onStop) return "stop";
  if (event.key === "ArrowUp" && text === "" && onEditLast) return "edit";
  return null;
}
