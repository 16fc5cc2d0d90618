/** A cluster for the browser tests: `chatcluster up` with three replicas, a workspace host and the simulated model, from its own folder. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { proxyOf } from "./proxy.ts";

const ROOT = join(import.meta.dirname, "../..");
const START_MS_MAX = 170_000;
const STOP_MS_MAX = 30_000;

declare module "vitest" {
  export interface ProvidedContext {
    cluster: { url: string; token: string; pid: number; dataDir: string; python: string };
  }
}

function python(): string {
  const own = join(ROOT, ".venv-dev/bin/python");
  return process.env.CHATCLUSTER_TEST_PYTHON ?? (existsSync(own) ? own : "python3");
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = mkdtempSync(join(tmpdir(), "chatcluster-e2e-"));
  const port = await freePort();
  const options = ["--port", String(port), "--replicas", "3", "--workspaces", "--data-dir", dataDir];
  const up = spawn(python(), ["-P", "-m", "chatcluster", "up", ...options], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const token = await tokenIn(up);
  const proxyName = process.env.PAGE_PROXY;
  const front = proxyName ? await freePort() : port;
  const proxy = proxyName ? proxyOf(proxyName, dataDir, front, port) : null;
  const url = `http://127.0.0.1:${front}`;
  await answering(url);
  project.provide("cluster", { url, token, pid: up.pid as number, dataDir, python: python() });
  return async () => {
    proxy?.kill("SIGTERM");
    await stopped(up);
    rmSync(dataDir, { recursive: true, force: true });
  };
}

function tokenIn(up: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    const late = setTimeout(() => reject(new Error(`the cluster did not start:\n${said}`)), START_MS_MAX);
    const listen = (piece: Buffer) => {
      said += piece;
      const token = /token\s+(ccl_\w+)\s/.exec(said)?.[1];
      if (!token) return;
      clearTimeout(late);
      resolve(token);
    };
    up.stdout?.on("data", listen);
    up.stderr?.on("data", listen);
    up.on("exit", (code) => reject(new Error(`the cluster ended with ${code}:\n${said}`)));
  });
}

/** Wait until there is somebody who answers. */
async function answering(url: string): Promise<void> {
  for (const end = Date.now() + START_MS_MAX; ; ) {
    const status = await fetch(url).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 200) return;
    if (Date.now() > end) throw new Error(`${url} answers ${status || "nothing"}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function stopped(up: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (up.exitCode !== null || up.signalCode !== null) return resolve(); // it ended by itself, and tells that no more
    const late = setTimeout(() => up.kill("SIGKILL"), STOP_MS_MAX);
    up.on("exit", () => {
      clearTimeout(late);
      resolve();
    });
    up.kill("SIGTERM");
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

/** The process of a replica, as it runs now: replicas that were killed are started again. */
export const replicaPid = (up: number, name: string): number | null => childPid(up, (words) => words.includes(name));

/** That of the cluster's Postgres or Redis. */
export const serverPid = (up: number, program: "postgres" | "redis-server"): number | null =>
  childPid(up, ([command = ""]) => command.split(" ")[0]?.split("/").at(-1) === program);

function childPid(up: number, isWanted: (words: string[]) => boolean): number | null {
  for (const pid of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === up && isWanted(words)) return Number(pid);
    } catch {
      // it ended while it was looked at
    }
  }
  return null;
}
