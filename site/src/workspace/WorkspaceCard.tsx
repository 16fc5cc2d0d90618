import { useQuery } from "@tanstack/react-query";
import { Box, CircleAlert, CircleCheck, CircleStop, LoaderCircle, type LucideIcon, Play, Square } from "lucide-react";
import { useState } from "react";
import type { OpenChat, Schemas } from "../client/index.ts";
import { api, type DiffStatus, diffKey, queries, readAgain } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Fold, Mark } from "../ui/Fold.tsx";
import { Notice } from "../ui/Notice.tsx";
import { Time } from "../ui/Time.tsx";
import { sayError } from "../ui/Toast.tsx";
import { Changes, Counts, files } from "./Changes.tsx";
import { Log } from "./Log.tsx";
import { Running } from "./Running.tsx";
import { Screen } from "./Screen.tsx";

type Workspace = Schemas["WorkspaceAnswer"];

const STATES: Record<string, { words: string; Icon: LucideIcon; look: string }> = {
  building: { words: "is built", Icon: LoaderCircle, look: "text-soft" },
  starting: { words: "starts", Icon: LoaderCircle, look: "text-soft" },
  running: { words: "running", Icon: CircleCheck, look: "text-good" },
  stopping: { words: "stops", Icon: LoaderCircle, look: "text-soft" },
  stopped: { words: "stopped", Icon: CircleStop, look: "text-soft" },
  failed: { words: "failed", Icon: CircleAlert, look: "text-bad" },
  lost: { words: "lost", Icon: CircleAlert, look: "text-bad" },
};
const IN_BETWEEN = new Set(["building", "starting", "stopping"]);
const CAN_START = new Set(["stopped", "failed", "lost"]);
const WHILE_CHANGING_MS = 1000;
const ELSE_MS = 15_000;

type WorkspaceCardProps = { chat: OpenChat; id: string };

/** Where a chat works: how that fares, what runs in it and what has changed. Folded it is one line. */
export default function WorkspaceCard({ chat, id }: WorkspaceCardProps) {
  const [isOpen, setOpen] = useState(false);
  const { data: workspace, error } = useWorkspace(id);
  const status = useDiffStatus(workspace?.chat_id);
  if (!workspace) return error ? <Notice tone="warn">The workspace cannot be read: {error.message}</Notice> : null;
  const { words, Icon, look } = STATES[workspace.state] ?? { words: workspace.state, Icon: Box, look: "text-soft" };
  return (
    <section aria-label="Workspace" className="rounded-xl border border-line bg-side text-sm">
      <div className="flex items-center gap-1 pr-1.5">
        <Fold Icon={Box} kind="Workspace" name={workspace.name} isOpen={isOpen} onToggle={() => setOpen(!isOpen)}>
          {!!status?.files && (
            <span className="flex shrink-0 items-center gap-1.5">
              <span className="text-xs text-soft max-sm:sr-only">{files(status.files)}</span>
              <Counts additions={status.additions} deletions={status.deletions} />
            </span>
          )}
          <Mark role="status" Icon={Icon} look={look}>
            {words}
          </Mark>
        </Fold>
        <StartOrStop workspace={workspace} />
      </div>
      {workspace.detail && (
        <p className={`foreign px-3 pb-2 ${look === "text-bad" ? "text-bad" : "text-soft"}`}>{workspace.detail}</p>
      )}
      {isOpen && (
        <div className="flex max-h-[max(8rem,min(50dvh,100dvh-24rem))] flex-col gap-3 overflow-y-auto border-t border-line px-3 py-2">
          <Facts workspace={workspace} />
          {workspace.desktop && workspace.state === "running" && <Screen chatId={workspace.chat_id} />}
          <Running chat={chat} />
          <Changes chatId={workspace.chat_id} version={status?.version ?? 0} />
          <Log id={id} isGrowing={IN_BETWEEN.has(workspace.state)} />
        </div>
      )}
    </section>
  );
}

/** It is asked for often while it changes, and now and then else: it may be stopped from anywhere. */
function useWorkspace(id: string) {
  return useQuery({
    queryKey: ["workspace", id],
    queryFn: () => api.get<Workspace>(`/workspaces/${id}`),
    refetchInterval: ({ state }) => (IN_BETWEEN.has(state.data?.state ?? "") ? WHILE_CHANGING_MS : ELSE_MS),
    staleTime: 0,
  });
}

/** How much has changed; the tab's stream brings it along. */
function useDiffStatus(chatId: string | undefined): DiffStatus | null | undefined {
  return useQuery({
    queryKey: diffKey(chatId ?? ""),
    queryFn: async () =>
      (await api.get<{ diff_status: DiffStatus | null }>(`/chats/${chatId}/diff-status`)).diff_status,
    enabled: chatId !== undefined,
  }).data;
}

function Facts({ workspace }: { workspace: Workspace }) {
  const { template, startup, expires_at, state } = workspace;
  return (
    <p className="foreign text-soft">
      Made of the template <strong className="font-medium text-ink">{template}</strong>.
      {startup === "running" && " Its start-up script runs."}
      {startup === "failed" && " Its start-up script failed: see the log."}
      {state === "running" && expires_at && (
        <>
          {" "}
          If nobody works in it, it is stopped <Time at={expires_at} isAhead />; its files stay.
        </>
      )}
      {state === "stopped" && " Its files are there when it is started."}
    </p>
  );
}

function StartOrStop({ workspace }: { workspace: Workspace }) {
  const [isBusy, setBusy] = useState(false);
  const { id, name, state } = workspace;
  const deed = CAN_START.has(state) ? "start" : state === "running" ? "stop" : null;
  if (!deed) return null;
  const ask = async () => {
    setBusy(true);
    try {
      const asked = await api.post<{ workspace: Workspace }>(`/workspaces/${id}/${deed}`);
      queries.setQueryData(["workspace", id], asked.workspace);
    } catch (error) {
      sayError(deed === "start" ? "Start" : "Stop", error);
      void readAgain(["workspace", id]);
    }
    setBusy(false);
  };
  const Icon = deed === "start" ? Play : Square;
  return (
    <Button
      look="plain"
      className="!px-2"
      disabled={isBusy}
      aria-label={deed === "start" ? `Start ${name}` : `Stop ${name}, and all that runs in it`}
      onClick={() => void ask()}
    >
      <Icon size={13} aria-hidden fill="currentColor" />
      <span className="max-sm:hidden">{deed === "start" ? "Start" : "Stop"}</span>
    </Button>
  );
}
