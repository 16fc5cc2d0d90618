/** A screen that nobody sees, for what only a browser with windows does: a press on a notification. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { until } from "./page.ts";

const NEEDED = ["Xvfb", "xdotool"];
/** What Chromium draws a notification in, where no desktop does: a small window without a name. */
const NOTE_PX_MAX = { width: 500, height: 400 };

/** The programs for that which are not installed here. */
export function missingPrograms(): string[] {
  return NEEDED.filter((program) => spawnSync("which", [program], { stdio: "ignore" }).status !== 0);
}

export type Display = { name: string; close: () => void };

export async function startDisplay(): Promise<Display> {
  const screen = ["-screen", "0", "1280x800x24", "-nolisten", "tcp"];
  const server: ChildProcess = spawn("Xvfb", ["-displayfd", "1", ...screen], { stdio: ["ignore", "pipe", "ignore"] });
  const number = await new Promise<string>((resolve, reject) => {
    server.stdout?.once("data", (said: Buffer) => resolve(String(said).trim()));
    server.once("exit", (code) => reject(new Error(`Xvfb ended with ${code}`)));
  });
  return { name: `:${number}`, close: () => server.kill() };
}

const PRESS_MS_MAX = 10_000;
/** Longer than a busy machine takes from a press to the page: one that is sent again too soon is pressed as well. */
const MISSING_MS_MAX = 30_000;

/**
 * Press the notification that is on the screen, with the pointer, until that has done something: one that is only just
 * coming in lets a press through. One that nobody pressed goes away by itself, sooner than a busy machine may find it: it
 * is sent `again` then.
 */
export async function pressNotification(
  { name }: Display,
  hasOpened: () => boolean,
  again: () => Promise<void>,
): Promise<void> {
  let missingSince = Date.now();
  const xdotool = (...args: string[]) => {
    // It fails where nothing is found, and where a window is gone by then.
    const env = { ...process.env, DISPLAY: name };
    const done = spawnSync("xdotool", args, { env, encoding: "utf8", timeout: PRESS_MS_MAX });
    return done.status === 0 ? done.stdout : "";
  };
  await until("a notification is pressed", async () => {
    if (hasOpened()) return true;
    const ids = xdotool("search", "--onlyvisible", "--name", "^$").split("\n").filter(Boolean);
    const windows = ids.map((id) => ({ id, ...sizeIn(xdotool("getwindowgeometry", "--shell", id)) }));
    const note = windows.find(
      ({ width, height }) => width < NOTE_PX_MAX.width && height < NOTE_PX_MAX.height && height > 30,
    );
    if (!note && Date.now() - missingSince > MISSING_MS_MAX) {
      await again();
      missingSince = Date.now();
    }
    if (note) {
      missingSince = Date.now();
      const middle = String(Math.round(note.height / 2));
      xdotool("mousemove", "--window", note.id, "60", middle, "sleep", "0.2", "click", "1", "sleep", "0.5");
    }
    return false;
  });
}

function sizeIn(geometry: string): { width: number; height: number } {
  const number = (name: string) => Number(new RegExp(`^${name}=(\\d+)$`, "m").exec(geometry)?.[1] ?? 0);
  return { width: number("WIDTH"), height: number("HEIGHT") };
}
