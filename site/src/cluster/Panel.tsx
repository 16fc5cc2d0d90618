import type { UseQueryResult } from "@tanstack/react-query";
import { Pause, Play, RefreshCw } from "lucide-react";
import { type ReactNode, useState } from "react";
import { ApiError } from "../client/index.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { Loading, Notice } from "../ui/Notice.tsx";
import { useNow } from "../ui/Time.tsx";

/** Whether a panel reads again by itself, and how to change that. */
export function useRefresh(everyMs: number): { everyMs: number | false; isPaused: boolean; toggle: () => void } {
  const [isPaused, setPaused] = useState(false);
  return { everyMs: isPaused ? false : everyMs, isPaused, toggle: () => setPaused(!isPaused) };
}

type PanelProps<T> = {
  title: string;
  what: string;
  query: UseQueryResult<T>;
  refresh?: ReturnType<typeof useRefresh>;
  actions?: ReactNode;
  /** How old what is shown may be without being called old. */
  freshMs?: number;
  children: (data: T) => ReactNode;
};

/** One subject of the cluster: loading, forbidden, failed, or what was read, with its age. */
export function Panel<T>({ title, what, query, refresh, actions, freshMs = FRESH_MS, children }: PanelProps<T>) {
  return (
    <>
      <div className="flex flex-wrap items-center gap-2 pb-3">
        <h1 className="flex-1 text-xl font-semibold">{title}</h1>
        {actions}
        <div className="ml-auto flex items-center gap-2">
          {query.data !== undefined && (
            <Age at={query.dataUpdatedAt} isPaused={refresh?.isPaused ?? false} freshMs={freshMs} />
          )}
          {refresh && (
            <IconButton label={refresh.isPaused ? "Go on" : "Pause"} onClick={refresh.toggle}>
              {refresh.isPaused ? <Play size={16} aria-hidden /> : <Pause size={16} aria-hidden />}
            </IconButton>
          )}
          <IconButton label="Read again" onClick={() => void query.refetch()}>
            <RefreshCw size={16} aria-hidden className={query.isFetching && !refresh ? "turning" : ""} />
          </IconButton>
        </div>
      </div>
      {query.isPending && <Loading what={what} />}
      {query.error && (
        <div className="pb-3">
          <Notice tone="bad" role="alert" action={<Button onClick={() => void query.refetch()}>Try again</Button>}>
            {problem(query.error, what, query.data !== undefined)}
          </Notice>
        </div>
      )}
      {query.data !== undefined && children(query.data)}
    </>
  );
}

function problem(error: Error, what: string, isKept: boolean): string {
  if (error instanceof ApiError && error.status === 403) return "This is for administrators.";
  const kept = isKept ? " What is shown is what was read last." : "";
  return `The ${what} cannot be read: ${error.message}${kept}`;
}

const FRESH_MS = 4000;

function Age({ at, isPaused, freshMs }: { at: number; isPaused: boolean; freshMs: number }) {
  const age = useNow(1000) - at;
  const words = age < freshMs ? "up to date" : `updated ${Math.round(age / 1000)} s ago`;
  return (
    <span className={`text-sm ${age < freshMs || isPaused ? "text-soft" : "text-warn"}`}>
      {isPaused ? `paused, ${words}` : words}
    </span>
  );
}
