import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Bill, Chat } from "../client/index.ts";
import { type Takeovers, TakeoverTable } from "../cluster/Takeovers.tsx";
import { api } from "../server.ts";
import { useSession } from "../session.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { costOf, tokensOf } from "../ui/money.ts";
import { duration, Time } from "../ui/Time.tsx";
import { useReplicaName } from "./replicas.ts";
import type { Quiet } from "./useOpenChat.ts";

type DetailsProps = { chat: Chat; view: Quiet; onClose: () => void };

/** What stands behind an answer: who gives it, how often it was tried, what it took. */
export default function Details({ chat, view, onClose }: DetailsProps) {
  const { data: session } = useSession();
  const name = useReplicaName(view.workerId);
  const last = view.turn?.usage;
  const all = useBill(chat.id, view.turn?.message_id);
  return (
    <Dialog title={chat.title || "Untitled"} onClose={onClose} wide>
      <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1 text-sm">
        <Row name="Status">{view.status + (view.cause ? ` (${view.cause})` : "")}</Row>
        <Row name="Replica">{view.workerId ? (name ?? view.workerId) : "none: the chat is at rest"}</Row>
        <Row name="Epoch">{view.epoch}</Row>
        <Row name="Attempts at the last answer">{view.attempt || "–"}</Row>
        {view.turn && <Row name="Last turn">{`${view.turn.outcome} in ${duration(view.turn.duration_ms)}`}</Row>}
        <Row name="Model">{chat.model ?? "the deployment's default"}</Row>
        {last && <Row name="Tokens of the last turn">{tokensOf(last)}</Row>}
        {last && <Row name="Cost of the last turn">{costOf(last)}</Row>}
        <Row name="Tokens of the chat">{all ? tokensOf(all) : "…"}</Row>
        <Row name="Cost of the chat">{all ? costOf(all) : "…"}</Row>
        <Row name="Created">
          <Time at={chat.created_at} />
        </Row>
        <Row name="Chat ID">
          <code className="font-mono text-xs">{chat.id}</code>
        </Row>
      </dl>
      {session?.admin && <ChatTakeovers id={chat.id} />}
    </Dialog>
  );
}

/** What all attempts of a chat cost until now. It is read anew when a turn has ended. */
function useBill(id: string, turn: number | undefined): Bill | undefined {
  const { data } = useQuery({
    queryKey: ["chat-bill", id, turn],
    queryFn: async () => (await api.get<{ usage: Bill }>(`/chats/${id}`)).usage,
    staleTime: 0,
  });
  return data;
}

function Row({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt className="text-soft">{name}</dt>
      <dd className="foreign">{children}</dd>
    </>
  );
}

const TAKEOVERS_MAX = 10;

function ChatTakeovers({ id }: { id: string }) {
  const { data } = useQuery({
    queryKey: ["takeovers", { chat: id }],
    queryFn: () => api.get<Takeovers>("/admin/takeovers", { chat: id, limit: TAKEOVERS_MAX }),
    staleTime: 0,
  });
  if (!data?.takeovers.length) return null;
  return (
    <section>
      <h3 className="pb-1 text-sm font-semibold">Takeovers</h3>
      <TakeoverTable takeovers={data.takeovers} isOfOneChat />
    </section>
  );
}
