import { ArrowUpToLine, Paperclip, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { ApiError, type Content, filesIn, type OpenChat, type Queued, textOf } from "../client/index.ts";
import { IconButton } from "../ui/Button.tsx";
import { laterLayer } from "../ui/parts.tsx";
import { say, sayError } from "../ui/Toast.tsx";

const QueuedEditor = laterLayer(async () => (await import("./QueuedEditor.tsx")).default);

type QueueProps = { chat: OpenChat; queue: readonly Queued[] };

/** What waits for the answer under way, in order. One that is edited may leave it meanwhile: what was written stays. */
export function Queue({ chat, queue }: QueueProps) {
  const [editing, edit] = useState<Queued | null>(null);
  const save = async ({ id }: Queued, content: Content) => {
    try {
      await chat.editQueued(id, content);
    } catch (error) {
      throw isGone(error) ? new Error(GONE) : error;
    }
  };
  return (
    <>
      {queue.length > 0 && <Waiting chat={chat} queue={queue} onEdit={edit} />}
      {editing && (
        <QueuedEditor queued={editing} onSave={(content) => save(editing, content)} onClose={() => edit(null)} />
      )}
    </>
  );
}

function Waiting({ chat, queue, onEdit }: QueueProps & { onEdit: (queued: Queued) => void }) {
  const attempt = (doing: string, deed: Promise<unknown>) => void deed.catch((error) => tell(doing, error));
  return (
    <section aria-label="Queue" className="mb-2 rounded-xl border border-line bg-side">
      <h2 className="px-3 pt-2 text-xs font-semibold text-soft">
        {queue.length === 1 ? "1 message waits" : `${queue.length} messages wait`}
      </h2>
      <ol className="max-h-[min(11rem,30dvh)] overflow-y-auto p-1">
        {queue.map((queued) => (
          <li key={queued.id} className="flex items-center gap-1 rounded-lg pl-2 hover:bg-raised">
            <span className="foreign min-w-0 flex-1 truncate text-sm">
              <Along queued={queued} />
              {textOf(queued.parts)}
            </span>
            <IconButton
              label="Send now: stop the answer, and answer this next"
              onClick={() => attempt("Send now", chat.promoteQueued(queued.id))}
            >
              <ArrowUpToLine size={16} aria-hidden />
            </IconButton>
            <IconButton label="Edit queued message" onClick={() => onEdit(queued)}>
              <Pencil size={15} aria-hidden />
            </IconButton>
            <IconButton label="Take out of the queue" onClick={() => attempt("Delete", chat.deleteQueued(queued.id))}>
              <Trash2 size={15} aria-hidden />
            </IconButton>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** The files that go with it, by name. */
function Along({ queued }: { queued: Queued }) {
  const files = filesIn(queued.parts);
  if (!files.length) return null;
  return (
    <span className="text-soft">
      <Paperclip size={14} role="img" aria-label="with" className="mr-1 inline" />
      {files.map(({ name }) => name).join(", ")}{" "}
    </span>
  );
}

const GONE = "That message has left the queue meanwhile.";

const isGone = (error: unknown) => error instanceof ApiError && error.code === "queued_message_not_found";

function tell(doing: string, error: unknown): void {
  if (isGone(error)) say(GONE);
  else sayError(doing, error);
}
