/** HAProxy or nginx before the cluster, with the files in deploy/: `PAGE_PROXY=haproxy`, say. */

import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const DEPLOY = join(import.meta.dirname, "../../deploy");

type Way = (folder: string, from: number, to: number) => [command: string, args: string[]];

const WAYS: Record<string, Way> = {
  haproxy: (folder, _, to) => {
    const replicas = join(folder, "haproxy-replicas.cfg");
    writeFileSync(replicas, `backend replicas\n    server all 127.0.0.1:${to}\n`);
    return ["haproxy", ["-f", join(DEPLOY, "haproxy.cfg"), "-f", replicas]];
  },
  nginx: (folder, from, to) => {
    copyFileSync(join(DEPLOY, "nginx.conf"), join(folder, "nginx.conf"));
    writeFileSync(join(folder, "nginx-replicas.conf"), `server 127.0.0.1:${to} max_fails=0;\n`);
    writeFileSync(join(folder, "nginx-listen.conf"), `listen 127.0.0.1:${from};\n`);
    const mine = `daemon off; pid ${folder}/nginx.pid;`;
    return ["nginx", ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr", "-g", mine]];
  },
};

/** A proxy at the port `from`, before what listens at `to`. */
export function proxyOf(name: string, folder: string, from: number, to: number): ChildProcess {
  const way = WAYS[name];
  if (!way) throw new Error(`PAGE_PROXY must be one of ${Object.keys(WAYS).join(", ")}`);
  const [command, args] = way(folder, from, to);
  const env = { ...process.env, CHATCLUSTER_BIND: `127.0.0.1:${from}`, PATH: `${process.env.PATH}:/usr/sbin` };
  return spawn(command, args, { env, stdio: ["ignore", "ignore", "inherit"] });
}
