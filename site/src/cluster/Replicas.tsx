import { useQuery } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import type { Replica } from "../chat/replicas.ts";
import { api, readAgain } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Dialog.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Badge, type Column, Table } from "../ui/Table.tsx";
import { duration, Time } from "../ui/Time.tsx";
import { say, sayError } from "../ui/Toast.tsx";
import { Panel, useRefresh } from "./Panel.tsx";

const EVERY_MS = 1000;
const GONE_SHOWN_MS = 5 * 60_000;
const TONES = { active: "good", draining: "warn", late: "bad", gone: "plain" } as const;

export function Replicas() {
  const [draining, askToDrain] = useState<Replica | null>(null);
  const refresh = useRefresh(EVERY_MS);
  const query = useQuery({
    queryKey: ["replicas"],
    queryFn: async () => (await api.get<{ replicas: Replica[] }>("/admin/replicas")).replicas,
    refetchInterval: refresh.everyMs,
  });
  const rows = useWithGone(query.data);
  return (
    <>
      <Panel title="Replicas" what="replicas" query={query} refresh={refresh}>
        {() =>
          rows.length ? (
            <Table label="Replicas" columns={columns(askToDrain)} rows={rows} rowKey={(row) => row.worker_id} />
          ) : (
            <Empty title="No replica is registered" />
          )
        }
      </Panel>
      {draining && (
        <Confirm
          title={`Drain ${draining.name}?`}
          action="Drain"
          onConfirm={() => void drain(draining)}
          onClose={() => askToDrain(null)}
        >
          It hands its {draining.chats} chats over at the end of their steps, its readers resume elsewhere, and its
          process ends. Whatever supervises it may start it again.
        </Confirm>
      )}
    </>
  );
}

async function drain(replica: Replica): Promise<void> {
  try {
    await api.post(`/admin/replicas/${replica.worker_id}/drain`);
    say(`${replica.name} drains.`);
    await readAgain(["replicas"]);
  } catch (error) {
    sayError("Drain", error);
  }
}

function columns(onDrain: (replica: Replica) => void): Column<Replica>[] {
  return [
    { name: "Name", cell: (row) => <span className="foreign font-medium">{row.name}</span> },
    {
      name: "State",
      cell: (row) => <Badge tone={TONES[row.state as keyof typeof TONES] ?? "plain"}>{row.state}</Badge>,
    },
    { name: "Chats", cell: (row) => `${row.chats} of ${row.slots}`, isNumber: true },
    { name: "Heartbeat", cell: (row) => `${duration(row.heartbeat_age_seconds * 1000)} ago`, isNumber: true },
    { name: "Started", cell: (row) => (row.started_at ? <Time at={row.started_at} /> : "–") },
    {
      name: "Address",
      cell: (row) => <code className="foreign whitespace-nowrap font-mono text-xs">{row.address}</code>,
    },
    { name: "Version", cell: (row) => <span className="foreign">{row.version}</span> },
    {
      name: "",
      cell: (row) =>
        row.state === "active" && (
          <Button onClick={() => onDrain(row)} aria-label={`Drain ${row.name}`}>
            Drain
          </Button>
        ),
    },
  ];
}

/** Replicas that were there a moment ago are told as gone: a row that vanishes tells nobody anything. */
function useWithGone(replicas: Replica[] | undefined): Replica[] {
  const known = useRef(new Map<string, { replica: Replica; at: number }>());
  useEffect(() => {
    for (const replica of replicas ?? []) known.current.set(replica.worker_id, { replica, at: Date.now() });
  }, [replicas]);
  const present = new Set(replicas?.map((replica) => replica.worker_id));
  const gone = [...known.current.values()]
    .filter(({ replica, at }) => !present.has(replica.worker_id) && Date.now() - at < GONE_SHOWN_MS)
    .map(({ replica, at }) => ({
      ...replica,
      state: "gone",
      chats: 0,
      heartbeat_age_seconds: (Date.now() - at) / 1000,
    }));
  return [...(replicas ?? []), ...gone].sort((one, other) =>
    one.name.localeCompare(other.name, undefined, { numeric: true }),
  );
}
