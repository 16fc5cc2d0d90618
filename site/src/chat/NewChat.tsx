import { Settings2 } from "lucide-react";
import { useState } from "react";
import { useLocation } from "wouter";
import type { ApiError, Chat, Content } from "../client/index.ts";
import { api, readListsAgain, takeChat } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { ahead, laterPart } from "../ui/parts.tsx";
import { sayError } from "../ui/Toast.tsx";
import { isAt, isLimit } from "./actions.ts";
import { Composer } from "./Composer.tsx";
import { attemptDone, attemptKey, keepDraft, keptDraft } from "./drafts.ts";
import { useListAlone } from "./useOpenChat.ts";

const ChatOptions = ahead(laterPart("the options", async () => (await import("./ChatOptions.tsx")).default));
const Limit = laterPart("the limit", async () => (await import("./Limit.tsx")).default);

const DRAFT = "new";
const OPTIONS = "options.new";

export type Options = { model: string; prompt: string; servers: readonly string[]; agents: boolean };
const NO_OPTIONS: Options = { model: "", prompt: "", servers: [], agents: false };

/** What was chosen for a chat that is not begun yet, over reloads; of what is none of that, nothing. */
function keptOptions(): Options {
  try {
    const { model, prompt, servers, agents } = JSON.parse(keptDraft(OPTIONS) || "{}") as Record<string, unknown>;
    return {
      model: typeof model === "string" ? model : "",
      prompt: typeof prompt === "string" ? prompt : "",
      servers: Array.isArray(servers) ? servers.filter((slug) => typeof slug === "string") : [],
      agents: agents === true,
    };
  } catch {
    return NO_OPTIONS;
  }
}

/** Of the options those that were chosen. */
const bodyOf = ({ model, prompt, servers, agents }: Options) => ({
  ...(model && { model }),
  ...(prompt.trim() && { system_prompt: prompt }),
  ...(servers.length && { mcp_servers: servers }),
  ...(agents && { agents }),
});

export function NewChat() {
  useListAlone();
  const [, navigate] = useLocation();
  const [options, setOptions] = useState(keptOptions);
  const [isOpen, setOpen] = useState(() => Object.keys(bodyOf(options)).length > 0);
  const [limit, setLimit] = useState<ApiError | null>(null);
  const choose = (chosen: Options) => {
    setOptions(chosen);
    keepDraft(OPTIONS, JSON.stringify(chosen));
  };
  const begin = async (content: Content) => {
    try {
      const body = { content, ...bodyOf(options) };
      const chat = await api.post<Chat>("/chats", body, attemptKey(DRAFT, body));
      attemptDone(DRAFT);
      keepDraft(OPTIONS, "");
      takeChat(chat);
      readListsAgain();
      if (isAt("/")) navigate(`/chats/${chat.id}`);
    } catch (error) {
      if (isLimit(error)) setLimit(error);
      else sayError("Send", error);
      throw error;
    }
  };
  return (
    <main id="main" className="flex min-h-0 flex-1 flex-col justify-center overflow-y-auto px-3 py-6 sm:px-5">
      <div className="mx-auto flex w-full max-w-2xl flex-col gap-4 pb-[12vh]">
        <h1 className="text-center text-2xl font-semibold">What shall we talk about?</h1>
        {limit && <Limit error={limit} />}
        <Composer draftKey={DRAFT} isBusy={false} placeholder="Write a message" onSend={begin}>
          <Button look="plain" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            <Settings2 size={15} aria-hidden />
            Options
          </Button>
        </Composer>
        {isOpen && <ChatOptions options={options} onChange={choose} />}
      </div>
    </main>
  );
}
