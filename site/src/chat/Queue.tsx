import { ArrowUpToLine, Paperclip, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { ApiError, filesIn, type OpenChat, type Queued, textOf } from "../client/index.ts";
import { IconButton } from "../ui/Button.tsx";
import { later } from "../ui/later.tsx";
import { say, sayError } from "../ui/Toast.tsx";

const QueuedEditor = later(async () => (await import("./QueuedEditor.tsx")).default);

/** What waits for the answer under way, in order. */
export function Queue({ chat, queue }: { chat: OpenChat; queue: readonly Queued[] }) {
  const [editing, edit] = useState<Queued | null>(null);
  if (!queue.length) return null;
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
            <IconButton label="Edit queued message" onClick={() => edit(queued)}>
              <Pencil size={15} aria-hidden />
            </IconButton>
            <IconButton label="Take out of the queue" onClick={() => attempt("Delete", chat.deleteQueued(queued.id))}>
              <Trash2 size={15} aria-hidden />
            </IconButton>
          </li>
        ))}
      </ol>
      {editing && (
        <QueuedEditor
          queued={editing}
          onSave={(content) => attempt("Edit", chat.editQueued(editing.id, content))}
          onClose={() => edit(null)}
        />
      )}
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

function tell(doing: string, error: unknown): void {
  const isGone = error instanceof ApiError && error.code === "queued_message_not_found";
  if (isGone) say("That message has left the queue meanwhile.");
  else sayError(doing, error);
}
