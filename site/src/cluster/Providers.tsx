import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api, readAgain } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Dialog.tsx";
import { Check, Choice, FormDialog, Text } from "../ui/FormDialog.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Addressed, Badge, type Column, Table } from "../ui/Table.tsx";
import { Time } from "../ui/Time.tsx";
import { say } from "../ui/Toast.tsx";
import { change } from "./change.ts";
import { EditAndRemove } from "./EditAndRemove.tsx";
import { Panel } from "./Panel.tsx";

export type Provider = Schemas["ProviderAnswer"];

const KEY = ["providers"];
const KINDS: Record<Provider["kind"], string> = {
  openai: "Chat Completions (OpenAI, and most others)",
  anthropic: "Messages (Anthropic)",
  "openai-responses": "Responses (OpenAI)",
};
const at = (name: string) => `/admin/providers/${encodeURIComponent(name)}`;

type Asked = { what: "add" } | { what: "edit" | "remove"; provider: Provider } | null;

export function useProviders(): UseQueryResult<Provider[]> {
  return useQuery({
    queryKey: KEY,
    queryFn: async () => (await api.get<{ providers: Provider[] }>("/admin/providers")).providers,
  });
}

/** The servers of models. */
export function Providers({ query }: { query: UseQueryResult<Provider[]> }) {
  const [asked, ask] = useState<Asked>(null);
  const add = (
    <Button look="main" onClick={() => ask({ what: "add" })}>
      New provider
    </Button>
  );
  return (
    <section>
      <Panel title="Providers" what="providers" query={query} actions={add}>
        {(providers) =>
          providers.length ? (
            <Table label="Providers" columns={columns(ask)} rows={providers} rowKey={(row) => row.name} />
          ) : (
            <Empty title="No providers">The model that the settings name answers, until there is one.</Empty>
          )
        }
      </Panel>
      {asked && asked.what !== "remove" && (
        <ProviderForm provider={asked.what === "edit" ? asked.provider : null} onClose={() => ask(null)} />
      )}
      {asked?.what === "remove" && (
        <Confirm
          title={`Remove the provider ${asked.provider.name}?`}
          action="Remove"
          onConfirm={() => void remove(asked.provider)}
          onClose={() => ask(null)}
        >
          Its key is forgotten. It stays as long as models are of it.
        </Confirm>
      )}
    </section>
  );
}

const remove = ({ name }: Provider) =>
  change("Remove", `The provider ${name} is removed.`, KEY, () => api.delete(at(name)));

const enable = ({ name }: Provider, enabled: boolean) =>
  change("Change", `${name} is ${enabled ? "on" : "off"}.`, KEY, () => api.patch(at(name), { enabled }));

function columns(ask: (asked: Asked) => void): Column<Provider>[] {
  return [
    { name: "Provider", cell: (row) => <Addressed name={row.name} address={row.base_url} /> },
    { name: "Speaks", cell: (row) => row.kind },
    { name: "Key", cell: (row) => <KeyTold provider={row} /> },
    {
      name: "State",
      cell: (row) => <Badge tone={row.enabled ? "good" : "plain"}>{row.enabled ? "enabled" : "disabled"}</Badge>,
    },
    {
      name: "",
      cell: (row) => (
        <div className="flex items-center justify-end gap-1">
          <Button
            aria-label={`${row.enabled ? "Disable" : "Enable"} ${row.name}`}
            onClick={() => void enable(row, !row.enabled)}
          >
            {row.enabled ? "Disable" : "Enable"}
          </Button>
          <EditAndRemove name={row.name} ask={(what) => ask({ what, provider: row })} />
        </div>
      ),
    },
  ];
}

function KeyTold({ provider }: { provider: Provider }) {
  if (!provider.has_key) return "none";
  return (
    <>
      <code className="foreign font-mono text-xs">…{provider.key_hint ?? ""}</code>
      {provider.key_set_at && (
        <>
          {" "}
          since <Time at={provider.key_set_at} />
        </>
      )}
    </>
  );
}

function ProviderForm({ provider, onClose }: { provider: Provider | null; onClose: () => void }) {
  const [name, setName] = useState("");
  const [kind, setKind] = useState<Provider["kind"]>("openai");
  const [url, setUrl] = useState(provider?.base_url ?? "");
  const [secret, setSecret] = useState("");
  const [isWithout, setWithout] = useState(false);
  const [enabled, setEnabled] = useState(provider?.enabled ?? true);
  const submit = async () => {
    const key = isWithout ? { key: null } : secret ? { key: secret } : {};
    const body = { base_url: url.trim(), enabled, ...key };
    if (provider) await api.patch(at(provider.name), body);
    else await api.post("/admin/providers", { ...body, name: name.trim(), kind });
    say(provider ? `The provider ${provider.name} is changed.` : `The provider ${name.trim()} is added.`);
    await readAgain(KEY);
  };
  return (
    <FormDialog
      title={provider ? `Change the provider ${provider.name}` : "New provider"}
      action={provider ? "Save" : "Add"}
      canSubmit={url.trim() !== "" && (provider !== null || name.trim() !== "")}
      onSubmit={submit}
      onClose={onClose}
    >
      {!provider && <Text label="Name" value={name} onChange={setName} />}
      {!provider && <Choice label="What it speaks" value={kind} options={KINDS} onChange={setKind} />}
      <Text label="Address" hint="Such as https://api.example/v1" type="url" value={url} onChange={setUrl} />
      <Text
        label={provider?.has_key ? "New key" : "Key"}
        hint={provider?.has_key ? "Empty: the key stays as it is" : "Empty: the server takes none"}
        type="password"
        value={secret}
        onChange={setSecret}
      />
      {provider?.has_key && <Check label="Forget the key" checked={isWithout} onChange={setWithout} />}
      <Check label="Enabled" checked={enabled} onChange={setEnabled} />
    </FormDialog>
  );
}
