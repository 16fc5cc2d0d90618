// What an agent does with the tools at /mcp: the protocol's own client and transport as they are published.
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

async function connected({ Client }, { url, token }, options) {
  const requestInit = { headers: { Authorization: `Bearer ${token}` } };
  const client = new Client({ name: "tests", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit, ...options }));
  return client;
}

async function called(client, name, given, options) {
  const answer = await client.callTool({ name, arguments: given }, undefined, options);
  if (answer.isError) throw new Error(answer.content[0].text);
  return answer.structuredContent;
}

export async function tools(sdk, order) {
  const client = await connected(sdk, order);
  return (await client.listTools()).tools.map((tool) => tool.name);
}

export async function ask(sdk, order) {
  const client = await connected(sdk, order);
  const made = await called(client, "chat_create", { content: order.content });
  const told = await called(client, "chat_wait", { chat_id: made.chat_id, cursor: made.cursor });
  const read = await called(client, "chat_read", { chat_id: made.chat_id });
  return { ...told, roles: read.messages.map((message) => message.role) };
}

// One answer, whatever breaks meanwhile: what breaks is repeated at the next address, with the same cursor.
export async function persist(sdk, order, tell) {
  const broke = [];
  let made;
  for (const [at, url] of order.urls.entries()) {
    try {
      const client = await connected(sdk, { ...order, url });
      // It would go on with a call at the same address, where nobody is any more.
      client.onerror = () => client.close();
      made ??= await called(client, "chat_create", { content: order.content });
      tell({ at });
      return { ...(await waited(client, made, tell)), chat: made.chat_id, broke };
    } catch (error) {
      broke.push(`${error}`);
    }
  }
  return { status: "broken", broke };
}

// One call of a client that is left alone, at one address with several replicas behind it.
export async function outlive(sdk, order, tell) {
  const asked = [];
  async function balanced(url, init) {
    asked.push(init.method);
    try {
      return await fetch(url, init);
    } catch {
      return fetch(`${order.other}/mcp`, init);
    }
  }
  const client = await connected(sdk, order, { fetch: balanced });
  const made = await called(client, "chat_create", { content: order.content });
  asked.length = 0;
  const given = { chat_id: made.chat_id, cursor: made.cursor, timeout: 50 };
  const told = await called(client, "chat_wait", given, { onprogress: tell });
  return { ...told, asked };
}

async function waited(client, { chat_id, cursor }, tell) {
  const onprogress = ({ message }) => tell({ text: message });
  for (;;) {
    const told = await called(client, "chat_wait", { chat_id, cursor, timeout: 20 }, { onprogress });
    if (!["pending", "running"].includes(told.status)) return told;
  }
}

export async function refused(sdk, order) {
  try {
    await connected(sdk, order);
  } catch (error) {
    return `${error}`;
  }
}

export async function mistaken(sdk, order) {
  const client = await connected(sdk, order);
  try {
    await called(client, "chat_wait", { chat_id: "none" });
  } catch (error) {
    return `${error}`;
  }
}
