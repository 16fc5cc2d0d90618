/** A real MCP server, as the tests of the cluster have it. */

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { cluster } from "./page.ts";

const SERVER = join(import.meta.dirname, "../../tests/mcp_test_server.py");

export type Tools = { address: string; process: ChildProcess };

export async function startTools(): Promise<Tools> {
  const tools = spawn(cluster.python, [SERVER], { stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise<string>((resolve, reject) => {
    tools.stdout?.once("data", (port: Buffer) => resolve(`http://127.0.0.1:${String(port).trim()}/mcp`));
    tools.once("exit", (code) => reject(new Error(`the server of tools ended with ${code}`)));
  });
  return { address, process: tools };
}
