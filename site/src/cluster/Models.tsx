import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { StandingPrompt } from "../StandingPrompt.tsx";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Dialog.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Badge, type Column, Table } from "../ui/Table.tsx";
import { change } from "./change.ts";
import { EditAndRemove } from "./EditAndRemove.tsx";
import { ModelForm } from "./ModelForm.tsx";
import { Panel } from "./Panel.tsx";
import { type Provider, Providers, useProviders } from "./Providers.tsx";

export type Model = Schemas["ModelEntry"];

export const MODELS = ["all-models"];
export const modelPath = (name: string) => `/admin/model?name=${encodeURIComponent(name)}`;

type Asked = { what: "add" } | { what: "edit" | "remove"; model: Model } | null;

/** The providers, and the names under which their models are asked for. */
export function Models() {
  const [asked, ask] = useState<Asked>(null);
  const providers = useProviders();
  const query = useQuery({
    queryKey: MODELS,
    queryFn: async () => (await api.get<{ models: Model[] }>("/admin/models")).models,
  });
  const known = providers.data ?? [];
  const add = (
    <Button look="main" disabled={!known.length} onClick={() => ask({ what: "add" })}>
      New model
    </Button>
  );
  return (
    <div className="flex flex-col gap-8">
      <Providers query={providers} />
      <section>
        <Panel title="Models" what="models" query={query} actions={add}>
          {(models) =>
            models.length ? (
              <Table label="Models" columns={columns(known, ask)} rows={models} rowKey={(row) => row.name} />
            ) : (
              <Empty title="No models">
                {known.length ? "Add one of a provider." : "The settings' model answers. Add a provider first."}
              </Empty>
            )
          }
        </Panel>
      </section>
      <StandingPrompt
        path="/config/system-prompt"
        label="What every chat begins with"
        hint="Models are told it before all else, in the chats of all users"
      />
      {asked && asked.what !== "remove" && (
        <ModelForm
          model={asked.what === "edit" ? asked.model : null}
          providers={known}
          models={query.data ?? []}
          onClose={() => ask(null)}
        />
      )}
      {asked?.what === "remove" && (
        <Confirm
          title={`Remove the model ${asked.model.name}?`}
          action="Remove"
          onConfirm={() => void remove(asked.model)}
          onClose={() => ask(null)}
        >
          Chats that name it are answered by the default from then on.
        </Confirm>
      )}
    </div>
  );
}

const remove = ({ name }: Model) =>
  change("Remove", `The model ${name} is removed.`, MODELS, () => api.delete(modelPath(name)));

const patch = ({ name }: Model, fields: Partial<Model>, done: string) =>
  change("Change", done, MODELS, () => api.patch(modelPath(name), fields));

function columns(providers: readonly Provider[], ask: (asked: Asked) => void): Column<Model>[] {
  return [
    { name: "Name", cell: (row) => <span className="foreign font-medium">{row.name}</span> },
    { name: "Provider", cell: (row) => <span className="foreign">{row.provider}</span> },
    { name: "Is called there", cell: (row) => <code className="foreign font-mono text-xs">{row.provider_model}</code> },
    { name: "Context", cell: (row) => row.context_tokens?.toLocaleString() ?? "–", isNumber: true },
    { name: "Fall-backs", cell: (row) => <span className="foreign">{row.fallbacks?.join(", ") || "–"}</span> },
    {
      name: "State",
      cell: (row) => <State model={row} provider={providers.find(({ name }) => name === row.provider)} />,
    },
    {
      name: "",
      cell: (row) => (
        <div className="flex items-center justify-end gap-1">
          {!row.is_default && (
            <Button
              aria-label={`Make ${row.name} the default`}
              onClick={() => void patch(row, { is_default: true }, `${row.name} is the default.`)}
            >
              Make default
            </Button>
          )}
          <Button
            aria-label={`${row.enabled === false ? "Enable" : "Disable"} ${row.name}`}
            onClick={() =>
              void patch(
                row,
                { enabled: row.enabled === false },
                `${row.name} is ${row.enabled === false ? "on" : "off"}.`,
              )
            }
          >
            {row.enabled === false ? "Enable" : "Disable"}
          </Button>
          <EditAndRemove name={row.name} ask={(what) => ask({ what, model: row })} />
        </div>
      ),
    },
  ];
}

function State({ model, provider }: { model: Model; provider: Provider | undefined }) {
  if (model.enabled === false) return <Badge tone="plain">disabled</Badge>;
  if (provider && !provider.enabled) return <Badge tone="warn">provider disabled</Badge>;
  return model.is_default ? <Badge tone="good">default</Badge> : <Badge tone="good">enabled</Badge>;
}
