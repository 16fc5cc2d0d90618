import { useQuery } from "@tanstack/react-query";
import { ChevronRight } from "lucide-react";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { visible } from "./visible.ts";

const LINES_MAX = 2000;
const GROWS_MS = 2000;

/** What was said while the workspace was made and started. It is read when it is opened. */
export function Log({ id, isGrowing }: { id: string; isGrowing: boolean }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details className="group/log" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary className="flex min-h-7 items-center gap-2 text-soft">
        <ChevronRight size={14} aria-hidden className="shrink-0 group-open/log:rotate-90" />
        Log of its making and starting
      </summary>
      {isOpen && <Lines id={id} isGrowing={isGrowing} />}
    </details>
  );
}

function Lines({ id, isGrowing }: { id: string; isGrowing: boolean }) {
  const { data, error } = useQuery({
    queryKey: ["workspace-log", id],
    queryFn: async () =>
      (await api.get<{ lines: Schemas["LogLine"][] }>(`/workspaces/${id}/logs`, { limit: LINES_MAX })).lines,
    refetchInterval: isGrowing ? GROWS_MS : false,
    staleTime: 0,
  });
  if (!data?.length) return <p className="text-soft">{error ? error.message : data ? "Nothing was said." : "…"}</p>;
  return (
    <pre
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
      tabIndex={0}
      dir="ltr"
      className="foreign max-h-60 overflow-auto whitespace-pre-wrap rounded-lg border border-line bg-page px-2.5 py-1.5 font-mono text-xs"
    >
      {data.map(({ number, source, text }) => (
        <span key={number} className="block">
          <span className="text-soft">{source}: </span>
          {visible(text)}
        </span>
      ))}
    </pre>
  );
}
