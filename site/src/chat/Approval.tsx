import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { type ActionCall, JsonText, type OpenChat } from "../client/index.ts";
import { chatNow } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { INPUT } from "../ui/Field.tsx";
import { Notice } from "../ui/Notice.tsx";
import { Time } from "../ui/Time.tsx";
import { sayError } from "../ui/Toast.tsx";
import { focusComposer } from "./Composer.tsx";
import { keepAnswer, keptAnswer } from "./drafts.ts";
import { plain } from "./json.ts";
import { Questions } from "./Questions.tsx";
import { SignIn } from "./SignIn.tsx";

type ApprovalProps = { chat: OpenChat; asked: readonly ActionCall[] };

/** What the chat waits for: each call that a person has to decide on, or that somebody else answers. */
export default function Approval({ chat, asked }: ApprovalProps) {
  const leave = (detail: number) => {
    if (detail === 0 && asked.length === 1) focusComposer(); // by keyboard: what was pressed goes away
  };
  return asked.map((call) =>
    call.kind === "approval" ? (
      <Decision key={keyOf(call)} chat={chat} call={call} onAnswered={leave} />
    ) : call.kind === "question" && call.questions ? (
      <Questions key={call.digest} chat={chat} call={call} questions={call.questions} onAnswered={leave} />
    ) : (
      <Waiting key={keyOf(call)} call={call} />
    ),
  );
}

/** An agent's call is that of another chat; with other arguments it is another question. */
const keyOf = ({ chat_id, call_id, digest }: ActionCall) => `${chat_id ?? ""} ${call_id} ${digest}`;

/** A call that nobody decides on here: it waits for a sign-in, for the program that gave the chat its tool, for others. */
function Waiting({ call }: { call: ActionCall }) {
  const name = <code className="foreign font-mono">{call.name}</code>;
  const slug = call.kind === "sign_in" ? call.name.split("__", 1)[0] : "";
  return (
    <Notice tone="warn" role="status" action={slug && <SignIn slug={slug} />}>
      {call.kind === "sign_in" && <>A server wants you to sign in before {name} can run.</>}
      {call.kind === "client" && <>The program that gave this chat the tool {name} has to run it.</>}
      {call.kind !== "sign_in" && call.kind !== "client" && <>{name} waits for others.</>}
      {call.deadline && (
        <>
          {" "}
          It expires <Time at={call.deadline} isAhead />.
        </>
      )}
    </Notice>
  );
}

/** Which agent it is. */
function AgentName({ id }: { id: string }) {
  const { data } = useQuery({ queryKey: ["chat", id], queryFn: () => chatNow(id), retry: false });
  return (
    <>
      The agent{" "}
      <Link href={`/chats/${id}`} className="text-accent underline">
        {data?.title || "of this chat"}
      </Link>
    </>
  );
}

const REMEMBER = { "": "Ask me again", chat: "Always in this chat", always: "Always, in all my chats" } as const;
type Remember = keyof typeof REMEMBER;

type DecisionProps = { chat: OpenChat; call: ActionCall; onAnswered: (detail: number) => void };

function Decision({ chat, call, onAnswered }: DecisionProps) {
  const asked = plain(call.arguments);
  const [text, setText] = useState(() => keptAnswer(chat.id, call) || asked);
  const [remember, setRemember] = useState<Remember>("");
  const [isBusy, setBusy] = useState(false);
  const isEdited = text !== asked;
  const problem = isEdited ? notAnObject(text) : "";
  const change = (next: string) => {
    setText(next);
    keepAnswer(chat.id, call, next === asked ? "" : next);
  };
  const decide = async (deed: "approve" | "deny", detail: number) => {
    setBusy(true);
    try {
      const body = deed === "approve" ? approval(call, remember, isEdited ? text : null) : {};
      await chat.api.post(
        `/chats/${call.chat_id ?? chat.id}/tool-calls/${encodeURIComponent(call.call_id)}/${deed}`,
        body,
      );
      keepAnswer(chat.id, call, "");
      onAnswered(detail);
    } catch (error) {
      sayError(deed === "approve" ? "Approve" : "Deny", error);
    }
    setBusy(false);
  };
  return (
    <section
      aria-label={`Approval of ${call.name}`}
      className="my-2 flex flex-col gap-2 rounded-xl bg-warn-tint p-3.5 text-sm"
    >
      <p className="foreign">
        {call.chat_id ? <AgentName id={call.chat_id} /> : "The model"} wants to run{" "}
        <code className="font-mono font-semibold">{call.name}</code>. Allow it?
        {call.may_have_run && " It may have run already: a server died while it ran."}
      </p>
      <label className="flex flex-col gap-1">
        <span className="text-xs font-semibold">Arguments</span>
        <textarea
          className={`${INPUT} field-sizing-content max-h-60 font-mono`}
          value={text}
          spellCheck={false}
          onChange={(event) => change(event.target.value)}
        />
      </label>
      {problem && <p className="text-bad">{problem}</p>}
      <div className="flex flex-wrap items-center gap-2">
        <Button
          look="main"
          disabled={isBusy || problem !== ""}
          onClick={({ detail }) => void decide("approve", detail)}
        >
          {isEdited ? "Approve as edited" : "Approve"}
        </Button>
        <Button disabled={isBusy} onClick={({ detail }) => void decide("deny", detail)}>
          Deny
        </Button>
        <select
          aria-label="The next time"
          className={`${INPUT} !w-auto`}
          value={remember}
          onChange={(event) => setRemember(event.target.value as Remember)}
        >
          {Object.entries(REMEMBER).map(([value, words]) => (
            <option key={value} value={value}>
              {words}
            </option>
          ))}
        </select>
        {call.deadline && (
          <span className="text-soft">
            Expires <Time at={call.deadline} isAhead />
          </span>
        )}
      </div>
    </section>
  );
}

/** What approves a call; with the arguments that somebody wrote, as they wrote them. */
function approval({ digest }: ActionCall, remember: Remember, edited: string | null): unknown {
  const body = JSON.stringify({ digest, ...(remember && { remember }) });
  return new JsonText(edited === null ? body : `${body.slice(0, -1)},"arguments":${edited}}`);
}

/** Why these can be no arguments; empty if they can. */
function notAnObject(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? "" : "Arguments are a JSON object, like {}.";
  } catch (error) {
    return `This is not JSON: ${(error as Error).message}`;
  }
}
