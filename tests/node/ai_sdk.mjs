// What a page does with `useChat`, without the page: AbstractChat and DefaultChatTransport as they are published.

class State {
  status = "ready";
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = this.messages.concat(message);
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

function chatOf(client, { url, token, id, messages = [], body, onlyLast, ...more }) {
  class Chat extends client.AbstractChat {
    constructor() {
      const transport = new client.DefaultChatTransport({
        api: `${url}/api/ai/chat`,
        headers: { Authorization: `Bearer ${token}` },
        body,
        prepareSendMessagesRequest: onlyLast
          ? ({ id, messages }) => ({ body: { id, message: messages.at(-1) } })
          : undefined,
      });
      super({ id, transport, state: new State(messages), ...more });
    }
  }
  return new Chat();
}

const textOf = (message) =>
  (message?.parts ?? [])
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("");
const outcomeOf = (chat) => ({
  status: chat.status,
  error: chat.error?.message ?? null,
  messages: chat.messages,
  text: textOf(chat.lastMessage),
});

const started = async (chat) => {
  while (!textOf(chat.lastMessage) || chat.lastMessage.role !== "assistant") {
    if (chat.status === "error") throw chat.error;
    await new Promise((done) => setTimeout(done, 5));
  }
};
const settled = async (chat) => {
  do {
    await new Promise((done) => setTimeout(done, 20));
  } while (chat.status === "submitted" || chat.status === "streaming");
};

export async function send(client, order) {
  const chat = chatOf(client, order);
  await chat.sendMessage({ text: order.text });
  return outcomeOf(chat);
}

/** The page is reloaded in mid-answer: what has it is gone, and another one comes. */
export async function reload(client, order) {
  const chat = chatOf(client, order);
  void chat.sendMessage({ text: order.text });
  await started(chat);
  const before = structuredClone(chat.messages);
  await chat.stop();
  const again = chatOf(client, { ...order, url: order.other, messages: before });
  await again.resumeStream();
  return { ...outcomeOf(again), stoppedAs: chat.status, before };
}

export async function resume(client, order) {
  const chat = chatOf(client, order);
  await chat.resumeStream();
  return outcomeOf(chat);
}

/** One answer, whatever breaks meanwhile: the same page goes on at the next address. */
export async function persist(client, order, tell) {
  const chat = chatOf(client, { ...order, url: order.urls[0] });
  const broke = [];
  let sent = chat.sendMessage({ text: order.text });
  for (const [at, url] of order.urls.entries()) {
    chat.transport.api = `${url}/api/ai/chat`;
    if (at) sent = chat.lastMessage.role === "user" ? chat.sendMessage() : chat.resumeStream();
    const isAnswered = await watched(chat, sent, at, tell);
    if (chat.status === "error") broke.push(chat.error.message);
    else if (isAnswered || (await load(chat, order))) break;
  }
  return { ...outcomeOf(chat), broke };
}

/** A tool of the page's own, and then an answer that is stopped, while replicas come and go. */
export async function live(client, order) {
  const chat = chatOf(client, {
    ...order,
    url: order.urls[0],
    sendAutomaticallyWhen: client.lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall }) => {
      void chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: "12 degrees" });
    },
  });
  await chat.sendMessage({ text: order.text });
  await mended(chat, order);
  const told = outcomeOf(chat);
  const count = chat.messages.length;
  void chat.sendMessage({ text: "[[tokens=400 tps=40]]" });
  while (chat.messages.length < count + 2 && chat.status !== "error") await new Promise((done) => setTimeout(done, 5));
  const headers = { Authorization: `Bearer ${order.token}` };
  const url = `${chat.transport.api}/${encodeURIComponent(order.id)}/stop`;
  while (!(await fetch(url, { method: "POST", headers }).catch(() => null))?.ok);
  await mended(chat, order);
  return { told, stopped: outcomeOf(chat) };
}

/** Until nothing runs, and nothing is broken. */
async function mended(chat, order) {
  await settled(chat);
  while (chat.status === "error") {
    await (chat.lastMessage.role === "user" ? chat.sendMessage() : chat.resumeStream());
    await settled(chat);
  }
  await load(chat, order);
}

/** What a page shows of its chat until a request of it is over; whether it was answered with a stream. */
async function watched(chat, running, at, tell) {
  let isOver = false;
  let isAnswered = false;
  let shown = "";
  void running.finally(() => {
    isOver = true;
  });
  while (!isOver) {
    if (!isAnswered && chat.status === "streaming") tell({ at });
    isAnswered ||= chat.status === "streaming";
    if (textOf(chat.lastMessage) !== shown) tell({ text: (shown = textOf(chat.lastMessage)) });
    await new Promise((done) => setTimeout(done, 5));
  }
  return isAnswered;
}

/** There was nothing to resume: the answer ended meanwhile. */
async function load(chat, { id, token }) {
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch(`${chat.transport.api}/${encodeURIComponent(id)}`, { headers }).catch(() => null);
  if (!answer?.ok) return false;
  chat.messages = (await answer.json()).messages;
  return true;
}

export async function stop(client, order) {
  const chat = chatOf(client, order);
  const sent = chat.sendMessage({ text: order.text });
  await started(chat);
  const headers = { Authorization: `Bearer ${order.token}` };
  const answer = await fetch(`${order.other}/api/ai/chat/${encodeURIComponent(order.id)}/stop`, { method: "POST", headers });
  await sent;
  return { ...outcomeOf(chat), answer: await answer.json() };
}

export async function regenerate(client, order) {
  const chat = chatOf(client, order);
  await chat.sendMessage({ text: order.text });
  const first = structuredClone(chat.messages);
  await chat.regenerate();
  return { ...outcomeOf(chat), first };
}

export async function edit(client, order) {
  const chat = chatOf(client, order);
  await chat.sendMessage({ text: order.text });
  await chat.sendMessage({ text: "and then?" });
  await chat.sendMessage({ text: order.changed, messageId: chat.messages[0].id });
  return outcomeOf(chat);
}

/** A tool of the page's own: the SDK calls it, and sends what it gave by itself. */
export async function clientTool(client, order) {
  const called = [];
  const chat = chatOf(client, {
    ...order,
    sendAutomaticallyWhen: client.lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall }) => {
      called.push(toolCall.toolName);
      void chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: order.output });
    },
  });
  await chat.sendMessage({ text: order.text });
  await settled(chat);
  return { ...outcomeOf(chat), called };
}

/** A person is asked about each call, and answers. */
export async function approve(client, order) {
  const chat = chatOf(client, {
    ...order,
    sendAutomaticallyWhen: client.lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  await chat.sendMessage({ text: order.text });
  const asked = chat.lastMessage.parts.filter((part) => part.state === "approval-requested");
  for (const part of asked) {
    await chat.addToolApprovalResponse({ id: part.approval.id, approved: order.approved, reason: order.reason });
  }
  await settled(chat);
  return { ...outcomeOf(chat), asked: asked.map((part) => part.toolName) };
}
