import { useQuery } from "@tanstack/react-query";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { useSession } from "../session.ts";

export type Replica = Schemas["ReplicaAnswer"];

/** The name of a worker: administrators may read it. Others learn that it is another one. */
export function useReplicaName(workerId: string | null | undefined): string | null {
  const { data: session } = useSession();
  const isAdmin = session?.admin ?? false;
  const { data } = useQuery({
    queryKey: ["replica-names", workerId],
    queryFn: async () => (await api.get<{ replicas: Replica[] }>("/replicas")).replicas,
    enabled: isAdmin && !!workerId,
    staleTime: 60_000,
  });
  return data?.find((replica) => replica.worker_id === workerId)?.name ?? null;
}
