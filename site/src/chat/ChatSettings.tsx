import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Chat } from "../client/index.ts";
import { api, takeChat } from "../server.ts";
import { Dialog } from "../ui/Dialog.tsx";
import { Choice, FormDialog } from "../ui/FormDialog.tsx";
import { Loading, Notice } from "../ui/Notice.tsx";
import { ModelChoice, PromptField, ServerChoice } from "./ChatOptions.tsx";

type Details = Chat & { system_prompt: string | null; mcp_servers: string[]; agents: boolean | null };

const AGENTS = { "": "As the cluster is set", true: "It may have others work for it", false: "It works alone" };

type ChatSettingsProps = { chat: Chat; onClose: () => void };

/** What a chat is answered with, from its next message on: its model, its instructions, its tools. */
export default function ChatSettings({ chat, onClose }: ChatSettingsProps) {
  const { data, error } = useQuery({
    queryKey: ["chat-settings", chat.id],
    queryFn: () => api.get<Details>(`/chats/${chat.id}`),
    gcTime: 0,
    staleTime: 0,
  });
  if (data) return <Form details={data} onClose={onClose} />;
  return (
    <Dialog title="Settings of the chat" onClose={onClose}>
      {error ? <Notice tone="bad">They cannot be read: {error.message}</Notice> : <Loading what="settings" />}
    </Dialog>
  );
}

function Form({ details, onClose }: { details: Details; onClose: () => void }) {
  const [model, setModel] = useState(details.model ?? "");
  const [prompt, setPrompt] = useState(details.system_prompt ?? "");
  const [servers, setServers] = useState<readonly string[]>(details.mcp_servers);
  const [agents, setAgents] = useState(String(details.agents ?? "") as keyof typeof AGENTS);
  const save = async () => {
    const body = {
      ...(model !== (details.model ?? "") && { model: model || null }),
      ...(prompt !== (details.system_prompt ?? "") && { system_prompt: prompt || null }),
      ...(servers.join() !== details.mcp_servers.join() && { mcp_servers: servers }),
      ...(agents !== String(details.agents ?? "") && { agents: agents === "" ? null : agents === "true" }),
    };
    if (Object.keys(body).length) takeChat(await api.patch<Chat>(`/chats/${details.id}`, body));
  };
  return (
    <FormDialog title="Settings of the chat" action="Save" onSubmit={save} onClose={onClose}>
      <p className="text-sm text-soft">What is changed holds from the next message on.</p>
      <ModelChoice value={model} onChange={setModel} />
      <PromptField value={prompt} onChange={setPrompt} />
      <ServerChoice chosen={servers} onChange={setServers} />
      <Choice label="Sub-agents" value={agents} options={AGENTS} onChange={setAgents} />
    </FormDialog>
  );
}
