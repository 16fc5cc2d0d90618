// Runs scenarios of one client for a test: `node driver.mjs ai_sdk.mjs ai7`. Each line of standard input is an order,
// {"scenario", ...}; what a scenario tells, and at last its result or its error, are lines of standard output.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const [script, version] = process.argv.slice(2);
const scenarios = await import(pathToFileURL(resolve(import.meta.dirname ?? ".", script)));
const client = await import(version);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

say({ result: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const { scenario, ...order } = JSON.parse(line);
  try {
    const result = await scenarios[scenario](client, order, (told) => say({ told }));
    say({ result: result ?? null });
  } catch (error) {
    say({ error: `${error?.stack ?? error}` });
  }
}
