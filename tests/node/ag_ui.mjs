// AG-UI's client as it is published: HttpAgent, which keeps messages and state of its own.

function agentOf({ HttpAgent }, { url, token, id, messages = [] }) {
  const headers = { Authorization: `Bearer ${token}` };
  const agent = new HttpAgent({ url: `${url}/api/agui`, threadId: id, headers, initialMessages: messages });
  agent.addUser = (text) => agent.addMessage({ id: crypto.randomUUID(), role: "user", content: text });
  return agent;
}

async function ran(agent, parameters = {}, onText = () => {}) {
  const seen = { events: [], interrupts: null, outcome: null, failed: null };
  let words = 0;
  const silenced = console.error;
  console.error = () => {}; // it writes what fails, too
  try {
    await agent.runAgent(parameters, {
      onEvent: ({ event }) => {
        seen.events.push(event.type);
      },
      onTextMessageContentEvent: ({ event }) => onText(++words, event.delta),
      onRunFinishedEvent: ({ event }) => {
        seen.outcome = event.outcome?.type ?? null;
        seen.interrupts = event.outcome?.interrupts ?? null;
      },
      onRunErrorEvent: ({ event }) => {
        seen.failed = { message: event.message, code: event.code };
      },
    });
  } catch (error) {
    seen.failed ??= { message: `${error.message}`, status: error.status ?? null };
  } finally {
    console.error = silenced;
  }
  return { ...seen, messages: agent.messages };
}

export async function run(client, order) {
  const agent = agentOf(client, order);
  if (order.text) agent.addUser(order.text);
  return ran(agent, order.parameters);
}

/** A page that is closed in mid-answer, and opened again with what it had. */
export async function leave(client, order) {
  const agent = agentOf(client, order);
  agent.addUser(order.text);
  const left = await ran(agent, {}, (words) => words === 3 && agent.abortRun());
  const again = agentOf(client, { ...order, url: order.other, messages: left.messages });
  return { left, ...(await ran(again)) };
}

/** One answer, whatever breaks meanwhile: what breaks is run once more, at the next address. */
export async function persist(client, order, tell) {
  const agent = agentOf(client, { ...order, url: order.urls[0] });
  agent.addUser(order.text);
  const broke = [];
  let told;
  for (const [at, url] of order.urls.entries()) {
    agent.url = `${url}/api/agui`;
    const begun = agent.subscribe({ onRunStartedEvent: () => tell({ at }) });
    told = await ran(agent, {}, (_, text) => tell({ text }));
    begun.unsubscribe();
    if (!told.failed) break;
    broke.push(told.failed.message);
  }
  return { ...told, broke };
}

/** A tool of the page: the run ends with the call, and another one brings what it gave. */
export async function pageTool(client, order) {
  const agent = agentOf(client, order);
  agent.addUser(order.text);
  const asked = await ran(agent, { tools: order.tools });
  const call = agent.messages.at(-1).toolCalls[0];
  agent.addMessage({ id: crypto.randomUUID(), role: "tool", toolCallId: call.id, content: order.output });
  return { asked, call, ...(await ran(agent, { tools: order.tools })) };
}

/** A call that a person has to approve. */
export async function approve(client, order) {
  const agent = agentOf(client, order);
  agent.addUser(order.text);
  const asked = await ran(agent, { forwardedProps: order.props });
  const resume = asked.interrupts.map((one) => ({ interruptId: one.id, ...order.answer }));
  return { asked, ...(await ran(agent, { resume, forwardedProps: order.props })) };
}
