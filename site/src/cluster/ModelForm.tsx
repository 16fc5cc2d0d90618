import { useState } from "react";
import { api, readAgain } from "../server.ts";
import { Check, Choice, FormDialog, Text } from "../ui/FormDialog.tsx";
import { say } from "../ui/Toast.tsx";
import { wordsOf } from "./change.ts";
import { MODELS, type Model, modelPath } from "./Models.tsx";
import type { Provider } from "./Providers.tsx";

const MICROS = 1e6;
const PRICES = {
  input: "Input",
  cached_input: "Cached input",
  cache_write: "Cache write",
  output: "Output",
  search: "1,000 searches",
} as const;
type Priced = keyof typeof PRICES;

type ModelFormProps = {
  /** The one that is changed, or none for a new one. */
  model: Model | null;
  providers: readonly Provider[];
  models: readonly Model[];
  onClose: () => void;
};

type Fields = {
  name: string;
  provider: string;
  provider_model: string;
  context: string;
  output: string;
  fallbacks: string;
  prices: Record<Priced, string>;
  enabled: boolean;
  isDefault: boolean;
  percent: string;
  continuation: keyof typeof CONTINUATIONS;
};

const CONTINUATIONS = {
  none: "It is asked anew",
  background: "The provider goes on with it, and is listened to again",
  prefix: "It goes on from the words that were shown",
};

export function ModelForm({ model, providers, models, onClose }: ModelFormProps) {
  const [fields, setFields] = useState(() => fieldsOf(model, providers, models.length === 0));
  const set = (some: Partial<Fields>) => setFields({ ...fields, ...some });
  const names = Object.fromEntries(providers.map(({ name }) => [name, name]));
  const submit = async () => {
    const body = bodyOf(fields);
    if (model) await api.patch(modelPath(model.name), body);
    else await api.post("/admin/models", { ...body, name: fields.name.trim() });
    say(`The model ${fields.name} is ${model ? "changed" : "added"}.`);
    await readAgain(MODELS);
  };
  return (
    <FormDialog
      title={model ? `Change the model ${model.name}` : "New model"}
      action={model ? "Save" : "Add"}
      canSubmit={fields.name.trim() !== "" && fields.provider !== "" && fields.provider_model.trim() !== ""}
      onSubmit={submit}
      onClose={onClose}
    >
      {!model && (
        <Text
          label="Name"
          hint="What people choose, and chats name"
          value={fields.name}
          onChange={(name) => set({ name })}
        />
      )}
      <Choice label="Provider" value={fields.provider} options={names} onChange={(provider) => set({ provider })} />
      <Text
        label="Name at the provider"
        value={fields.provider_model}
        onChange={(provider_model) => set({ provider_model })}
      />
      <div className="grid gap-3 sm:grid-cols-2">
        <Text
          label="Tokens of context"
          hint="Empty: unknown"
          type="number"
          value={fields.context}
          onChange={(context) => set({ context })}
        />
        <Text
          label="Tokens of an answer at most"
          type="number"
          value={fields.output}
          onChange={(output) => set({ output })}
        />
      </div>
      <div className="grid gap-3 sm:grid-cols-2">
        <Text
          label="Summarise from (% of the context)"
          type="number"
          value={fields.percent}
          onChange={(percent) => set({ percent })}
        />
        <Choice
          label="An answer whose replica died"
          value={fields.continuation}
          options={CONTINUATIONS}
          onChange={(continuation) => set({ continuation })}
        />
      </div>
      <Text
        label="Fall-backs"
        hint="Models that take its place when it fails again and again, separated by commas"
        value={fields.fallbacks}
        onChange={(fallbacks) => set({ fallbacks })}
      />
      <fieldset className="grid grid-cols-2 gap-3 sm:grid-cols-4">
        <legend className="pb-1 text-sm font-medium">
          Price of a million tokens, or a thousand searches (empty: unknown)
        </legend>
        {(Object.keys(PRICES) as Priced[]).map((kind) => (
          <Text
            key={kind}
            label={PRICES[kind]}
            type="number"
            step="any"
            value={fields.prices[kind]}
            onChange={(price) => set({ prices: { ...fields.prices, [kind]: price } })}
          />
        ))}
      </fieldset>
      <Check label="Enabled" checked={fields.enabled} onChange={(enabled) => set({ enabled })} />
      {!model?.is_default && (
        <Check
          label="The default, for chats that name no model"
          checked={fields.isDefault}
          onChange={(isDefault) => set({ isDefault })}
        />
      )}
    </FormDialog>
  );
}

function fieldsOf(model: Model | null, providers: readonly Provider[], isFirst: boolean): Fields {
  const price = (kind: Priced) => String((model?.prices?.[kind] ?? Number.NaN) / MICROS).replace("NaN", "");
  return {
    name: model?.name ?? "",
    provider: model?.provider ?? providers[0]?.name ?? "",
    provider_model: model?.provider_model ?? "",
    context: String(model?.context_tokens ?? ""),
    output: String(model?.output_tokens_max ?? ""),
    fallbacks: model?.fallbacks?.join(", ") ?? "",
    prices: {
      input: price("input"),
      cached_input: price("cached_input"),
      cache_write: price("cache_write"),
      output: price("output"),
      search: price("search"),
    },
    enabled: model?.enabled ?? true,
    isDefault: model?.is_default ?? isFirst,
    percent: String(model?.compaction_percent ?? ""),
    continuation: model?.continuation ?? "none",
  };
}

/** What is sent: of numbers those that were given, and of the default only that it is one. */
function bodyOf(fields: Fields): Partial<Model> {
  const prices = Object.entries(fields.prices).flatMap(([kind, price]) =>
    price === "" ? [] : [[kind, Math.round(Number(price) * MICROS)]],
  );
  return {
    provider: fields.provider,
    provider_model: fields.provider_model.trim(),
    context_tokens: fields.context === "" ? null : Number(fields.context),
    ...(fields.output !== "" && { output_tokens_max: Number(fields.output) }),
    ...(fields.percent !== "" && { compaction_percent: Number(fields.percent) }),
    continuation: fields.continuation,
    fallbacks: wordsOf(fields.fallbacks),
    prices: Object.fromEntries(prices),
    enabled: fields.enabled,
    ...(fields.isDefault && { is_default: true }),
  };
}
