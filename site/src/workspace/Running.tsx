import { useMemo } from "react";
import { fieldOf } from "../chat/family.ts";
import { useSelected } from "../chat/useOpenChat.ts";
import type { CallOutput, ChatView, OpenChat } from "../client/index.ts";
import Output from "./Output.tsx";
import { visible } from "./visible.ts";

type Command = { id: string; command: string; output: CallOutput };

/** The commands that run for the chat and its agents now and have printed something: each with what it prints. */
export function Running({ chat }: { chat: OpenChat }) {
  const own = useSelected(chat.view, commandsOf, areSame);
  const agents = useSelected(chat.agents, (views) => [...views.values()].flatMap(commandsOf), areSame);
  const all = useMemo(() => [...own, ...agents], [own, agents]);
  if (!all.length) return null;
  return (
    <section aria-label="Running now" className="flex flex-col gap-2">
      {all.map(({ id, command, output }) => (
        <div key={id} className="overflow-hidden rounded-lg border border-line">
          <p className="foreign truncate border-b border-line px-2.5 py-1 font-mono text-xs" dir="ltr">
            {visible(command)}
          </p>
          <Output output={output} />
        </div>
      ))}
    </section>
  );
}

function commandsOf({ messages, preview, outputs }: ChatView): readonly Command[] {
  const ids = Object.keys(outputs);
  if (!ids.length) return [];
  const parts = [...messages.slice(-MESSAGES_LOOKED_AT).flatMap((message) => message.parts), ...preview];
  const asked = new Map(parts.flatMap((part) => (part.type === "tool_call" ? [[part.id, part.arguments]] : [])));
  return ids.map((id) => ({
    id,
    command: fieldOf(asked.get(id) ?? "", "command") || "A command",
    output: outputs[id] as CallOutput,
  }));
}

/** What runs was asked for lately. */
const MESSAGES_LOOKED_AT = 50;

const areSame = (one: readonly Command[], other: readonly Command[]) =>
  one.length === other.length && one.every(({ id, output }, at) => other[at]?.id === id && other[at].output === output);
