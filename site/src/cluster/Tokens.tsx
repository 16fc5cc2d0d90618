import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { CopyButton } from "../chat/CopyButton.tsx";
import type { Schemas } from "../client/index.ts";
import { api, readAgain } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Confirm, Dialog } from "../ui/Dialog.tsx";
import { Field, INPUT } from "../ui/Field.tsx";
import { Empty, Notice } from "../ui/Notice.tsx";
import { Badge, type Column, Table } from "../ui/Table.tsx";
import { Time } from "../ui/Time.tsx";
import { say, sayError } from "../ui/Toast.tsx";
import { Panel } from "./Panel.tsx";

type Token = Schemas["Token"];

const KEY = ["tokens"];

export function Tokens() {
  const [isMaking, setMaking] = useState(false);
  const [revoking, askToRevoke] = useState<Token | null>(null);
  const query = useQuery({
    queryKey: KEY,
    queryFn: async () => (await api.get<{ tokens: Token[] }>("/admin/tokens")).tokens,
  });
  const make = (
    <Button look="main" onClick={() => setMaking(true)}>
      New token
    </Button>
  );
  return (
    <>
      <Panel title="Tokens" what="tokens" query={query} actions={make}>
        {(tokens) =>
          tokens.length ? (
            <Table label="Tokens" columns={columns(askToRevoke)} rows={tokens} rowKey={(row) => row.id} />
          ) : (
            <Empty title="No tokens" />
          )
        }
      </Panel>
      {isMaking && <NewToken onClose={() => setMaking(false)} />}
      {revoking && (
        <Confirm
          title={`Revoke the token ${revoking.name ? `“${revoking.name}” ` : ""}of ${revoking.user_name}?`}
          action="Revoke"
          onConfirm={() => void revoke(revoking)}
          onClose={() => askToRevoke(null)}
        >
          Nobody gets in with it from now on. Its streams and its sessions end at once, on every replica.
        </Confirm>
      )}
    </>
  );
}

async function revoke(token: Token): Promise<void> {
  try {
    await api.delete(`/admin/tokens/${token.id}`);
    say("The token is revoked.");
    await readAgain(KEY);
  } catch (error) {
    sayError("Revoke", error);
  }
}

function columns(onRevoke: (token: Token) => void): Column<Token>[] {
  return [
    { name: "User", cell: (row) => <span className="foreign font-medium">{row.user_name}</span> },
    { name: "Name", cell: (row) => <span className="foreign">{row.name || "–"}</span> },
    { name: "Last used", cell: (row) => (row.last_used_at ? <Time at={row.last_used_at} /> : "never") },
    { name: "Created", cell: (row) => <Time at={row.created_at} /> },
    { name: "Expires", cell: (row) => (row.expires_at ? <Time at={row.expires_at} isAhead /> : "never") },
    { name: "State", cell: (row) => <State token={row} /> },
    {
      name: "",
      cell: (row) => (
        <Button onClick={() => onRevoke(row)} aria-label={`Revoke the token ${row.name} of ${row.user_name}`}>
          Revoke
        </Button>
      ),
    },
  ];
}

function State({ token }: { token: Token }) {
  const isExpired = token.expires_at && Date.parse(token.expires_at) <= Date.now();
  return isExpired ? <Badge tone="bad">expired</Badge> : <Badge tone="good">valid</Badge>;
}

function NewToken({ onClose }: { onClose: () => void }) {
  const [user, setUser] = useState("");
  const [name, setName] = useState("");
  const [admin, setAdmin] = useState(false);
  const [days, setDays] = useState("90");
  const [secret, setSecret] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (isBusy) return; // a second one would be valid, and seen by nobody
    setBusy(true);
    const expires = days ? { expires_at: new Date(Date.now() + Number(days) * 86_400_000).toISOString() } : {};
    try {
      const body = { user: user.trim(), name: name.trim(), admin, ...expires };
      setSecret((await api.post<{ token: string }>("/admin/tokens", body)).token);
      await readAgain(KEY);
    } catch (error) {
      sayError("New token", error);
    }
    setBusy(false);
  };
  if (secret) return <Secret secret={secret} user={user} onClose={onClose} />;
  return (
    <Dialog title="New token" onClose={onClose} isForm>
      <form onSubmit={submit} className="flex flex-col gap-4">
        <Field label="User" hint="Is made if there is none of this name">
          <input
            className={INPUT}
            value={user}
            maxLength={100}
            required
            onChange={(event) => setUser(event.target.value)}
          />
        </Field>
        <Field label="Name of the token" hint="What it is for">
          <input className={INPUT} value={name} maxLength={100} onChange={(event) => setName(event.target.value)} />
        </Field>
        <Field label="Days until it expires" hint="Empty: never">
          <input
            className={INPUT}
            type="number"
            min={1}
            max={3650}
            value={days}
            onChange={(event) => setDays(event.target.value)}
          />
        </Field>
        <label className="flex items-center gap-2 text-sm">
          <input
            type="checkbox"
            className="size-4"
            checked={admin}
            onChange={(event) => setAdmin(event.target.checked)}
          />
          Administrator
        </label>
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="main" disabled={!user.trim() || isBusy}>
            Make token
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function Secret({ secret, user, onClose }: { secret: string; user: string; onClose: () => void }) {
  return (
    <Dialog title={`Token of ${user}`} onClose={onClose} isOnce>
      <Notice tone="warn">This is the only time that it is shown.</Notice>
      <div className="flex items-center gap-2 rounded-lg bg-raised p-3">
        <code className="min-w-0 flex-1 break-all font-mono text-sm">{secret}</code>
        <CopyButton text={secret} label="Copy token" />
      </div>
      <Button className="self-end" onClick={onClose}>
        Done
      </Button>
    </Dialog>
  );
}
