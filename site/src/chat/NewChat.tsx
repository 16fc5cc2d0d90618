import { Settings2 } from "lucide-react";
import { useState } from "react";
import { useLocation } from "wouter";
import type { Chat } from "../client/index.ts";
import { api, readListsAgain, takeChat } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Field, INPUT } from "../ui/Field.tsx";
import { sayError } from "../ui/Toast.tsx";
import { Composer } from "./Composer.tsx";
import { attemptDone, attemptKey } from "./drafts.ts";
import { useListAlone } from "./useOpenChat.ts";

const DRAFT = "new";

export function NewChat() {
  useListAlone();
  const [, navigate] = useLocation();
  const [isOpen, setOpen] = useState(false);
  const [model, setModel] = useState("");
  const [prompt, setPrompt] = useState("");
  const begin = async (content: string) => {
    const options = { ...(model.trim() && { model: model.trim() }), ...(prompt.trim() && { system_prompt: prompt }) };
    try {
      const body = { content, ...options };
      const chat = await api.post<Chat>("/chats", body, attemptKey(DRAFT, body));
      attemptDone(DRAFT);
      takeChat(chat);
      void readListsAgain();
      navigate(`/chats/${chat.id}`);
    } catch (error) {
      sayError("Send", error);
      throw error;
    }
  };
  return (
    <main id="main" className="flex min-h-0 flex-1 flex-col justify-center overflow-y-auto px-3 py-6 sm:px-5">
      <div className="mx-auto flex w-full max-w-2xl flex-col gap-4 pb-[12vh]">
        <h1 className="text-center text-2xl font-semibold">What shall we talk about?</h1>
        <Composer draftKey={DRAFT} isBusy={false} placeholder="Write a message" onSend={begin}>
          <Button look="plain" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            <Settings2 size={15} aria-hidden />
            Options
          </Button>
        </Composer>
        {isOpen && (
          <div className="flex flex-col gap-3 rounded-2xl border border-line p-4">
            <Field label="Model" hint="Empty: the deployment's default">
              <input
                className={INPUT}
                value={model}
                maxLength={200}
                onChange={(event) => setModel(event.target.value)}
              />
            </Field>
            <Field label="Instructions to the model">
              <textarea
                className={`${INPUT} field-sizing-content max-h-60`}
                rows={3}
                value={prompt}
                onChange={(event) => setPrompt(event.target.value)}
              />
            </Field>
          </div>
        )}
      </div>
    </main>
  );
}
