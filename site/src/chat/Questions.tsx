import { useState } from "react";
import type { ActionCall, CallQuestion, OpenChat } from "../client/index.ts";
import { Button } from "../ui/Button.tsx";
import { INPUT } from "../ui/Field.tsx";
import { Time } from "../ui/Time.tsx";
import { sayError } from "../ui/Toast.tsx";

type Field = {
  name: string;
  title: string;
  about?: string;
  kind: string;
  choices?: readonly string[];
  initial: string;
};
type QuestionsProps = { chat: OpenChat; call: ActionCall; questions: readonly CallQuestion[] };

/** What the server of a tool asks the user: forms to fill in, and pages to go to. */
export function Questions({ chat, call, questions }: QuestionsProps) {
  const [isBusy, setBusy] = useState(false);
  const reply = async (action: "accept" | "decline", form?: FormData) => {
    setBusy(true);
    const answers = Object.fromEntries(
      questions.map((question) => [
        question.key,
        { action, ...(form && question.schema && { content: filledIn(question, form) }) },
      ]),
    );
    try {
      const path = `/chats/${call.chat_id ?? chat.id}/tool-calls/${encodeURIComponent(call.call_id)}/answer`;
      await chat.api.post(path, { answers, digest: call.digest });
    } catch (error) {
      sayError("Answer", error);
    }
    setBusy(false);
  };
  return (
    <form
      aria-label={`Questions of ${call.name}`}
      className="my-2 flex flex-col gap-2 rounded-xl bg-warn-tint p-3.5 text-sm"
      onSubmit={(event) => {
        event.preventDefault();
        void reply("accept", new FormData(event.currentTarget));
      }}
    >
      <p className="foreign">
        <code className="font-mono font-semibold">{call.name}</code> asks you:
      </p>
      {questions.map((question) => (
        <fieldset key={question.key} className="flex flex-col gap-2">
          <legend className="foreign whitespace-pre-wrap">{question.message}</legend>
          {question.url && (
            <a href={question.url} target="_blank" rel="noreferrer noopener" className="foreign text-accent underline">
              {question.url}
            </a>
          )}
          {fieldsOf(question).map((field) => (
            <Entry key={field.name} field={field} name={`${question.key} ${field.name}`} />
          ))}
        </fieldset>
      ))}
      <div className="flex flex-wrap items-center gap-2">
        <Button look="main" type="submit" disabled={isBusy}>
          Answer
        </Button>
        <Button disabled={isBusy} onClick={() => void reply("decline")}>
          Decline
        </Button>
        {call.deadline && (
          <span className="text-soft">
            Until <Time at={call.deadline} />
          </span>
        )}
      </div>
    </form>
  );
}

function Entry({ field, name }: { field: Field; name: string }) {
  const { kind, choices, initial } = field;
  return (
    <div className="flex flex-col gap-1">
      <label htmlFor={name} className="foreign text-xs font-semibold">
        {field.title}
      </label>
      {choices ? (
        <select id={name} name={name} className={INPUT} defaultValue={initial} multiple={kind === "array"}>
          {kind !== "array" && <option value="" />}
          {choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : kind === "boolean" ? (
        <input id={name} name={name} type="checkbox" className="self-start" defaultChecked={initial === "true"} />
      ) : (
        <input
          id={name}
          name={name}
          className={INPUT}
          type={kind === "number" || kind === "integer" ? "number" : "text"}
          step={kind === "number" ? "any" : undefined}
          defaultValue={initial}
        />
      )}
      {field.about && <span className="foreign text-soft text-xs">{field.about}</span>}
    </div>
  );
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

const words = (value: unknown) => (typeof value === "string" ? value : "");

function fieldsOf({ schema }: CallQuestion): Field[] {
  return Object.entries(record(schema?.properties)).map(([name, value]) => {
    const field = record(value);
    const kind = words(field.type);
    const initial = field.default === undefined ? "" : String(field.default);
    const choices = choicesOf(kind === "array" ? record(field.items) : field);
    return { name, title: words(field.title) || name, about: words(field.description), kind, choices, initial };
  });
}

function choicesOf({ enum: values, oneOf, anyOf }: Record<string, unknown>): string[] | undefined {
  if (Array.isArray(values)) return values.map(String);
  const named = oneOf ?? anyOf;
  return Array.isArray(named) ? named.map((one) => String(record(one).const)) : undefined;
}

/** What is left empty is left out: the server says which it cannot do without. */
function filledIn(question: CallQuestion, form: FormData): Record<string, unknown> {
  const content: Record<string, unknown> = {};
  for (const { name, kind } of fieldsOf(question)) {
    const said = form.getAll(`${question.key} ${name}`).map(String);
    const [first = ""] = said;
    if (kind === "boolean") content[name] = first !== "";
    else if (kind === "array") content[name] = said;
    else if (first !== "") content[name] = kind === "number" || kind === "integer" ? Number(first) : first;
  }
  return content;
}
