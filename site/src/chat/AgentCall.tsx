import { useQuery } from "@tanstack/react-query";
import { Bot, CircleCheck, CircleStop, CircleX, Hourglass, LoaderCircle, Square } from "lucide-react";
import { useContext, useMemo, useState } from "react";
import { useStickToBottom } from "use-stick-to-bottom";
import { Link } from "wouter";
import { type ChatView, EMPTY_VIEW, type Message, textOf } from "../client/index.ts";
import { api, chatNow } from "../server.ts";
import { Button, buttonClass } from "../ui/Button.tsx";
import { Fold, Mark } from "../ui/Fold.tsx";
import { Notice } from "../ui/Notice.tsx";
import { sayError } from "../ui/Toast.tsx";
import { agentWords, Family, fieldsIn, Source, type Telling, textIn, useAgent } from "./family.ts";
import { Notices, Parts } from "./Message.tsx";
import { useResults } from "./results.ts";
import { ToolCall, type ToolCallProps } from "./ToolCall.tsx";

/** A call by which a chat has another one work for it. What began an agent shows it; the others say whom they are about. */
export default function AgentCall(props: ToolCallProps) {
  const { call, answered } = props;
  const result = answered?.result;
  const asked = fieldsIn(call.arguments);
  const told = fieldsIn(result && !result.is_error ? textIn(result.content) : "");
  if (call.name === "spawn_agent" && told.chat_id) return <Agent id={told.chat_id} title={told.title} />;
  const id = call.name === "spawn_agent" ? null : asked.chat_id;
  return <Named {...props} id={id} title={told.title || asked.title} />;
}

function Named({ id, title, ...props }: ToolCallProps & { id: string | null; title: string }) {
  const { data } = useQuery({
    queryKey: ["chat", id],
    queryFn: () => chatNow(id as string),
    enabled: id !== null && !title,
    retry: false,
  });
  return <ToolCall {...props} about={title || data?.title || ""} />;
}

const LOOKS = {
  busy: { Icon: LoaderCircle, look: "text-soft" },
  good: { Icon: CircleCheck, look: "text-good" },
  bad: { Icon: CircleX, look: "text-bad" },
  warn: { Icon: Hourglass, look: "text-warn" },
  soft: { Icon: CircleStop, look: "text-soft" },
};

/** An agent: how it is, and what it says, as it says it. It is open while it works, unless one chooses otherwise. */
function Agent({ id, title }: { id: string; title: string }) {
  const view = useAgent(id);
  const source = useSource(id);
  const { words, look } = agentWords(view);
  const [chosen, choose] = useState<boolean | null>(null);
  const isOpen = chosen ?? (look === "busy" || look === "warn");
  const name = view?.title || title || "Agent";
  return (
    <div className="my-2 rounded-xl border border-line bg-side text-sm">
      <Fold Icon={Bot} kind="Agent:" name={name} isOpen={isOpen} onToggle={() => choose(!isOpen)}>
        <Mark {...LOOKS[look]}>{words}</Mark>
      </Fold>
      {isOpen && (
        <div className="border-t border-line">
          {view && (
            <Source value={source}>
              <Work name={name} view={view} />
            </Source>
          )}
          <div className="flex flex-wrap gap-2 p-2">
            <Link href={`/chats/${id}`} className={buttonClass("plain")}>
              Open
            </Link>
            {look === "busy" && view?.status && <Stop id={id} name={name} />}
          </div>
        </div>
      )}
    </div>
  );
}

function useSource(id: string): Telling | null {
  const agents = useContext(Family)?.agents;
  return useMemo(
    () => (agents ? { subscribe: agents.subscribe, get: () => agents.get().get(id) ?? EMPTY_VIEW } : null),
    [agents, id],
  );
}

function Stop({ id, name }: { id: string; name: string }) {
  const stop = () => void api.post(`/chats/${id}/interrupt`).catch((error) => sayError("Stop", error));
  return (
    <Button look="plain" aria-label={`Stop ${name}`} onClick={stop}>
      <Square size={13} aria-hidden fill="currentColor" />
      Stop
    </Button>
  );
}

const MESSAGES_SHOWN = 30;

/** What it was asked, and says. */
function Work({ name, view }: { name: string; view: ChatView }) {
  const { scrollRef, contentRef } = useStickToBottom({ initial: "instant", resize: "instant" });
  const results = useResults(view);
  const shown = view.messages.filter(({ role }) => role === "user" || role === "assistant");
  const left = shown.length - MESSAGES_SHOWN;
  return (
    <section
      ref={scrollRef}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
      tabIndex={0}
      aria-label={`What ${name} does`}
      aria-live="off"
      className="max-h-80 overflow-y-auto px-3 py-2"
    >
      <div ref={contentRef} className="flex flex-col gap-1">
        {left > 0 && <p className="text-soft">{left} earlier messages</p>}
        {shown.slice(-MESSAGES_SHOWN).map((message) =>
          message.role === "user" ? (
            <Task key={message.id} message={message} />
          ) : (
            <div key={message.id}>
              <Parts
                parts={message.parts}
                at={message.created_at}
                results={results}
                asked={view.asked}
                isActive={view.status !== "waiting" && view.status !== "error"}
              />
            </div>
          ),
        )}
        {view.preview.length > 0 && (
          <div aria-busy>
            <Parts parts={view.preview} results={results} asked={view.asked} isActive isStreaming />
          </div>
        )}
        <Notices notices={view.notices} />
        {view.retry && <Notice tone="warn">The model failed ({view.retry.error}). It is tried again.</Notice>}
        {view.status === "error" && (
          <Notice tone="bad">It failed: {view.error?.message ?? "no reason is given"}</Notice>
        )}
      </div>
    </section>
  );
}

function Task({ message }: { message: Message }) {
  return (
    <p className="foreign max-h-24 overflow-hidden whitespace-pre-wrap border-l-2 border-line pl-3 text-soft">
      {textOf(message.parts)}
    </p>
  );
}
