import { useId, useRef, useState } from "react";
import type { ActionCall, CallQuestion, OpenChat } from "../client/index.ts";
import { Button } from "../ui/Button.tsx";
import { INPUT } from "../ui/Field.tsx";
import { Time } from "../ui/Time.tsx";
import { sayError } from "../ui/Toast.tsx";
import { visible } from "../workspace/visible.ts";
import { keepAnswer, keptAnswer } from "./drafts.ts";

type Field = {
  name: string;
  title: string;
  about: string;
  /** Of an input, where it is one: what a browser knows how to check. */
  type: string;
  kind: string;
  choices: readonly Choice[] | undefined;
  initial: readonly string[];
  isRequired: boolean;
};
type Choice = { value: string; title: string };
type QuestionsProps = {
  chat: OpenChat;
  call: ActionCall;
  questions: readonly CallQuestion[];
  /** With the detail of the press that answered them. */
  onAnswered?: (detail: number) => void;
};

/** What the server of a tool asks the user: forms to fill in, and pages to go to. */
export function Questions({ chat, call, questions, onAnswered }: QuestionsProps) {
  const detail = useRef(0);
  const [isBusy, setBusy] = useState(false);
  const [written] = useState(() => writtenBefore(chat.id, call));
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
      keepAnswer(chat.id, call, "");
      onAnswered?.(detail.current);
    } catch (error) {
      sayError("Answer", error);
    }
    setBusy(false);
  };
  return (
    <form
      aria-label={`Questions of ${call.name}`}
      className="my-2 flex flex-col gap-2 rounded-xl bg-warn-tint p-3.5 text-sm"
      onClickCapture={(event) => {
        detail.current = event.detail;
      }}
      onChange={(event) => keepAnswer(chat.id, call, allOf(new FormData(event.currentTarget)))}
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
          <legend className="foreign mb-2 whitespace-pre-wrap">{question.message}</legend>
          {question.url && <Address url={question.url} />}
          {fieldsOf(question).map((field) => {
            const name = `${question.key} ${field.name}`;
            return (
              <Entry key={name} field={written ? { ...field, initial: written[name] ?? [] } : field} name={name} />
            );
          })}
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
            Expires <Time at={call.deadline} isAhead />
          </span>
        )}
      </div>
    </form>
  );
}

type Written = Record<string, string[]>;

/** What stands in a form, by the names of its entries: a box that is not ticked has none. */
const allOf = (form: FormData): string =>
  JSON.stringify(Object.fromEntries([...form.keys()].map((name) => [name, form.getAll(name).map(String)])));

/** What was written before all was told anew, or loaded anew; null if nothing was. */
function writtenBefore(chatId: string, call: ActionCall): Written | null {
  try {
    return JSON.parse(keptAnswer(chatId, call) || "null");
  } catch {
    return null;
  }
}

/** Where the server wants the user to go. It may say anything: what stands here is where it leads, and nothing turns it around. */
function Address({ url }: { url: string }) {
  const found = pageAt(url);
  if (!found) return <p className="foreign text-bad">It names an address that is none: {visible(url)}</p>;
  return (
    <p className="foreign">
      <a href={found.href} target="_blank" rel="noreferrer noopener" dir="ltr" className="text-accent underline">
        {found.href}
      </a>{" "}
      <bdi dir="ltr" className="text-soft">
        ({found.host})
      </bdi>
    </p>
  );
}

function pageAt(url: string): URL | null {
  const found = URL.canParse(url) ? new URL(url) : null;
  return found?.protocol === "https:" || found?.protocol === "http:" ? found : null;
}

function Entry({ field, name }: { field: Field; name: string }) {
  const id = useId();
  const { kind, about } = field;
  const label = (
    <label htmlFor={id} className="foreign text-xs font-semibold">
      {field.title}
      {field.isRequired && <span className="font-normal text-soft"> (required)</span>}
    </label>
  );
  const help = about ? { "aria-describedby": `${id}-about` } : {};
  const entry = { id, name, ...help };
  return (
    <div className="flex flex-col gap-1">
      {kind === "boolean" ? (
        <div className="flex min-h-6 items-center gap-2">
          <input
            {...entry}
            type="checkbox"
            className="size-4"
            value="true"
            defaultChecked={field.initial[0] === "true"}
          />
          {label}
        </div>
      ) : (
        <>
          {label}
          {field.choices ? (
            <Choices {...entry} field={field} choices={field.choices} />
          ) : (
            <Line {...entry} field={field} />
          )}
        </>
      )}
      {about && (
        <span id={`${id}-about`} className="foreign text-soft text-xs">
          {about}
        </span>
      )}
    </div>
  );
}

type EntryProps = { id: string; name: string; field: Field };

function Choices({ field, choices, ...entry }: EntryProps & { choices: readonly Choice[] }) {
  const isMany = field.kind === "array";
  return (
    <select
      {...entry}
      className={INPUT}
      required={field.isRequired}
      multiple={isMany}
      defaultValue={isMany ? [...field.initial] : (field.initial[0] ?? "")}
    >
      {!isMany && <option value="" />}
      {choices.map(({ value, title }) => (
        <option key={value} value={value}>
          {title}
        </option>
      ))}
    </select>
  );
}

function Line({ field, ...entry }: EntryProps) {
  return (
    <input
      {...entry}
      className={INPUT}
      type={field.type}
      step={field.kind === "number" ? "any" : undefined}
      required={field.isRequired}
      defaultValue={field.initial[0]}
    />
  );
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

const words = (value: unknown) => (typeof value === "string" ? value : "");

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

/** Of text: by its format. */
const TYPES: Record<string, string> = { email: "email", uri: "url", date: "date" };

function fieldsOf({ schema }: CallQuestion): Field[] {
  const required = new Set(list(schema?.required));
  return Object.entries(record(schema?.properties)).map(([name, value]) => {
    const field = record(value);
    const kind = words(field.type);
    const isNumber = kind === "number" || kind === "integer";
    return {
      name,
      title: words(field.title) || name,
      about: words(field.description),
      kind,
      type: isNumber ? "number" : (TYPES[words(field.format)] ?? "text"),
      choices: choicesOf(kind === "array" ? record(field.items) : field),
      initial: (Array.isArray(field.default) ? field.default : [field.default ?? ""]).map(String),
      isRequired: required.has(name),
    };
  });
}

function choicesOf({ enum: values, enumNames, oneOf, anyOf }: Record<string, unknown>): Choice[] | undefined {
  if (Array.isArray(values)) {
    const names = list(enumNames);
    return values.map((value, at) => ({ value: String(value), title: words(names[at]) || String(value) }));
  }
  const named = list(oneOf ?? anyOf).map(record);
  if (!named.length || !named.every((one) => "const" in one)) return;
  return named.map((one) => ({ value: String(one.const), title: words(one.title) || String(one.const) }));
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
