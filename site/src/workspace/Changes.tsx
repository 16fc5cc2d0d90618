import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { ChevronRight } from "lucide-react";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Notice } from "../ui/Notice.tsx";
import { Time } from "../ui/Time.tsx";
import { changesIn, type FileChange } from "./patch.ts";
import { visible } from "./visible.ts";

type Diff = Schemas["ChatDiffAnswer"];

/** What has changed in the working directory, as git tells it, file by file. It is read anew when that changes. */
export function Changes({ chatId, version }: { chatId: string; version: number }) {
  const { data, error } = useQuery({
    queryKey: ["diff", chatId, version],
    queryFn: () => api.get<Diff>(`/chats/${chatId}/diff`),
    placeholderData: keepPreviousData,
    staleTime: 0,
    retry: false,
  });
  if (data) return <Told diff={data} />;
  return <p className="text-soft">{error ? `Changes: ${error.message}` : "Changes …"}</p>;
}

function Told({ diff }: { diff: Diff }) {
  if (!diff.is_repository) return <p className="text-soft">The working directory is no git repository.</p>;
  const changes = changesIn(diff.files, diff.patch);
  return (
    <section aria-label="Changes" className="flex flex-col gap-1">
      <p className="foreign text-soft">
        {changes.length === 0 ? "No file has changed" : files(diff.files.length)}
        {diff.directory && ` in ${visible(diff.directory)}`}
        {diff.branch && ` on ${visible(diff.branch)}`}
        {diff.base && ` since ${diff.base.slice(0, 8)}`}
        {!diff.is_live && diff.updated_at && (
          <>
            , as it was <Time at={diff.updated_at} />
          </>
        )}
        .
      </p>
      {changes.map((change) => (
        <Changed key={change.file.path} change={change} />
      ))}
      {diff.is_truncated && <Notice tone="info">There is more than is shown here.</Notice>}
    </section>
  );
}

export const files = (count: number) => (count === 1 ? "1 file" : `${count} files`);

function Changed({ change: { file, lines } }: { change: FileChange }) {
  const [isOpen, setOpen] = useState(false);
  const { path, old_path, additions, deletions, status } = file;
  return (
    <details
      className="group/file overflow-hidden rounded-lg border border-line"
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary className="flex min-h-8 items-center gap-2 px-2.5 py-1">
        <ChevronRight size={14} aria-hidden className="shrink-0 text-soft group-open/file:rotate-90" />
        <span className="foreign min-w-0 flex-1 font-mono text-xs" dir="ltr">
          {old_path && <span className="text-soft">{visible(old_path)} → </span>}
          {visible(path)}
        </span>
        <Counts additions={additions} deletions={deletions} />
        <span className="shrink-0 text-xs text-soft">{status.replace("_", " ")}</span>
      </summary>
      {isOpen && (lines.length ? <Lines lines={lines} /> : <p className="px-2.5 py-1.5 text-soft">{without(file)}</p>)}
    </details>
  );
}

/** Why there are no lines. */
function without({ status, additions }: FileChange["file"]): string {
  if (status === "untracked") return "Git does not track it: what is in it is not shown here.";
  return additions === null ? "No text." : "No line of it is shown here.";
}

type CountsProps = { additions?: number | null | undefined; deletions?: number | null | undefined };

export function Counts({ additions, deletions }: CountsProps) {
  if (additions == null || deletions == null) return null;
  return (
    <span className="shrink-0 whitespace-nowrap text-xs tabular-nums">
      <span className="text-good" title="lines added">
        +{additions}
      </span>{" "}
      <span className="text-bad" title="lines removed">
        −{deletions}
      </span>
    </span>
  );
}

const LINES_AT_ONCE = 500;
const CHARACTERS_MAX = 2000;
const LOOKS: Record<string, string> = { "+": "bg-good-tint", "-": "bg-bad-tint", "@": "text-soft", "\\": "text-soft" };

/** The lines of one file. There may be more than a page can show: they come piece by piece. */
function Lines({ lines }: { lines: readonly string[] }) {
  const [count, setCount] = useState(LINES_AT_ONCE);
  const left = lines.length - count;
  return (
    <>
      <pre
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
        tabIndex={0}
        dir="ltr"
        className="max-h-96 overflow-auto border-t border-line bg-page py-1 font-mono text-xs leading-relaxed"
      >
        <code className="block w-max min-w-full">
          {lines.slice(0, count).map((line, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines have no other name
            <span key={at} className={`block px-2.5 ${LOOKS[line[0] ?? ""] ?? ""}`}>
              {shown(line)}
            </span>
          ))}
        </code>
      </pre>
      {left > 0 && (
        <Button look="plain" className="w-full" onClick={() => setCount(count + LINES_AT_ONCE)}>
          {left} more lines
        </Button>
      )}
    </>
  );
}

function shown(line: string): string {
  const more = line.length - CHARACTERS_MAX;
  return visible(more > 0 ? `${line.slice(0, CHARACTERS_MAX)} … ${more} more characters` : line) || " ";
}
