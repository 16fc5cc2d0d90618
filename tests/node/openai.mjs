// OpenAI's client for JavaScript as it is published: its methods, its streams, and its `.stream()` helper.

const MODEL = "simulated";
const WEATHER = {
  type: "function",
  name: "get_weather",
  description: "The weather of a city",
  parameters: { type: "object", properties: { city: { type: "string" } } },
  strict: false,
};

const connected = ({ OpenAI }, { token }, url, more = {}) =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey: token, maxRetries: 0, timeout: 30_000, ...more });

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const isWord = (event) => event.type === "response.output_text.delta";

export async function whole(client, order) {
  const one = connected(client, order, order.url);
  const other = connected(client, order, order.other);
  const models = (await one.models.list()).data.map((model) => model.id);
  const made = await one.responses.create({ model: MODEL, input: order.input, metadata: { a: "b" } });
  const found = await other.responses.retrieve(made.id);
  const next = await other.responses.create({ model: MODEL, input: "[[mode=request]]", previous_response_id: made.id });
  const items = [];
  for await (const item of other.responses.inputItems.list(made.id)) items.push(item.content[0].text);
  await one.responses.delete(made.id);
  const gone = await one.responses.retrieve(made.id).catch((error) => error.constructor.name);
  return { models, made, text: made.output_text, found, next: next.output_text, items, gone };
}

/** All events, and for each of them what follows it, from the other replica. */
export async function events(client, order) {
  const made = await all(await connected(client, order, order.url).responses.create({ model: MODEL, input: order.input, stream: true }));
  const other = connected(client, order, order.other);
  const id = made[0].response.id;
  const rests = await Promise.all(
    made.map(async (_, number) => all(await other.responses.retrieve(id, { stream: true, starting_after: number }))),
  );
  const again = await all(await other.responses.retrieve(id, { stream: true }));
  return { made, again, rests };
}

/** The helper keeps a snapshot of its own, and throws at what it does not expect. */
export async function helper(client, order) {
  const stream = connected(client, order, order.url).responses.stream({ model: MODEL, input: order.input, tools: order.tools });
  let said = "";
  stream.on("response.output_text.delta", (event) => {
    said += event.delta;
  });
  const seen = await all(stream);
  const response = await stream.finalResponse();
  const resumed = connected(client, order, order.other).responses.stream({ response_id: response.id, starting_after: 1 });
  const rest = await all(resumed);
  return { said, seen: seen.length, response, rest: rest.length, text: (await resumed.finalResponse()).output_text };
}

export async function functions(client, order) {
  const one = connected(client, order, order.url);
  const asked = await one.responses.create({ model: MODEL, input: order.input, tools: [WEATHER] });
  const [call] = asked.output;
  const output = [{ type: "function_call_output", call_id: call.call_id, output: "12 degrees" }];
  const more = { model: MODEL, previous_response_id: asked.id, tools: [WEATHER] };
  const told = await connected(client, order, order.other).responses.stream({ ...more, input: output }).finalResponse();
  return { call, text: told.output_text };
}

export async function cancel(client, order) {
  let requests = 0;
  const counted = (...given) => {
    requests += 1;
    return fetch(...given);
  };
  const one = connected(client, order, order.url, { maxRetries: 2, fetch: counted });
  const made = await one.responses.create({ model: MODEL, input: order.input, background: true });
  const before = requests;
  const busy = await one.responses
    .create({ model: MODEL, input: "?", previous_response_id: made.id })
    .catch((error) => ({ name: error.constructor.name, code: error.code }));
  const tries = requests - before;
  const stream = connected(client, order, order.other).responses.stream({ response_id: made.id });
  const seen = [];
  for await (const event of stream) {
    seen.push(event.type);
    if (isWord(event) && !seen.slice(0, -1).includes(event.type)) await one.responses.cancel(made.id);
  }
  const ended = await stream.finalResponse();
  return { made: made.status, busy, tries, last: seen.at(-1), status: ended.status, text: ended.output_text };
}

export async function errors(client, order) {
  const named = (error) => ({ name: error.constructor.name, code: error.code, param: error.param, message: error.message });
  const one = connected(client, order, order.url);
  const wrong = connected(client, { token: "ccl_wrong" }, order.url);
  return {
    token: await wrong.models.list().catch(named),
    missing: await one.responses.retrieve("resp_x").catch(named),
    refused: await one.responses.create({ model: MODEL, input: "x", tools: [{ type: "web_search" }] }).catch(named),
    failed: await one.responses.create({ model: MODEL, input: "[[fail=401]]" }),
  };
}

export async function completion(client, order) {
  const one = connected(client, order, order.url);
  const messages = [{ role: "user", content: order.input }];
  const made = await one.chat.completions.create({ model: MODEL, messages });
  const stream = one.chat.completions.stream({ model: MODEL, messages });
  return { made: made.choices[0].message.content, streamed: (await stream.finalChatCompletion()).choices[0].message.content };
}

const ENDS = ["response.completed", "response.failed", "response.incomplete"];

/** One answer, whatever breaks meanwhile: what is told of it at one address until that breaks, then at the next. */
export async function persist(client, order, tell) {
  const seen = [];
  const broke = [];
  for (const [at, url] of order.urls.entries()) {
    try {
      const stream = await opened(connected(client, order, url), order, seen, () => tell({ at }));
      for await (const event of stream) {
        seen.push(event);
        if (isWord(event)) tell({ text: event.delta });
      }
      const again = await all(await connected(client, order, url).responses.retrieve(seen[0].response.id, { stream: true }));
      return { seen, again, broke, ended: ENDS.includes(seen.at(-1)?.type) };
    } catch (error) {
      broke.push(error.constructor.name);
    }
  }
  return { seen, broke, ended: false };
}

/** The answer from its beginning on, or what comes behind what was seen; raw, or by the helper. */
async function opened(one, { input, helper, more }, seen, tellConnected) {
  const asked = { model: MODEL, input, ...more };
  const id = seen[0]?.response.id;
  const rest = { starting_after: seen.at(-1)?.sequence_number };
  if (helper) return one.responses.stream(id ? { response_id: id, ...rest } : asked).on("connect", tellConnected);
  const stream = id ? one.responses.retrieve(id, { stream: true, ...rest }) : one.responses.create({ ...asked, stream: true });
  await stream.then(tellConnected);
  return stream;
}

/** What a program does with responses, while replicas come and go. */
export async function live(client, order, tell) {
  const one = connected(client, order, order.urls[0], { maxRetries: 20 });
  const read = async (input, more = {}) => (await persist(client, { ...order, input, more }, tell)).seen.at(-1).response;
  const asked = await read(order.call, { tools: [WEATHER] });
  const [call] = asked.output.filter((item) => item.type === "function_call");
  const output = [{ type: "function_call_output", call_id: call.call_id, output: "12 degrees" }];
  const told = await read(output, { tools: [WEATHER], previous_response_id: asked.id });
  const found = await one.responses.retrieve(told.id);
  const items = [];
  for await (const item of one.responses.inputItems.list(asked.id)) items.push(item.type);
  const failed = await read("[[fail=401]]");
  const missing = await one.responses.retrieve("resp_x").catch((error) => error.constructor.name);
  const long = await one.responses.create({ model: MODEL, input: "[[tokens=2000 tps=40]]", background: true });
  const cancelled = await one.responses.cancel(long.id);
  await one.responses.delete(long.id).catch(() => null); // whose first reply was lost
  const gone = await one.responses.retrieve(long.id).catch((error) => error.constructor.name);
  return { text: found.output_text, items, failed: failed.status, missing, cancelled: cancelled.status, gone };
}
