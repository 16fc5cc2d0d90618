import { useEffect, useState, useSyncExternalStore } from "react";
import { decimal } from "./numbers.ts";

const MINUTE_MS = 60_000;

type TimeProps = { at: string; isAhead?: boolean };

/**
 * A moment, relative where it is near, with the full date and both clocks in its title. What has happened was not in the
 * future, whatever this machine's clock says; what `isAhead` may be.
 */
export function Time({ at, isAhead = false }: TimeProps) {
  const date = new Date(at);
  const words = useSyncExternalStore(eachHalfMinute, () => {
    const now = Date.now();
    return relative(isAhead ? date.getTime() : Math.min(date.getTime(), now), now);
  });
  return (
    <time dateTime={at} title={`${date.toLocaleString()} (${date.toISOString()})`} className="whitespace-nowrap">
      {words}
    </time>
  );
}

const listeners = new Set<() => void>();
let ticking: ReturnType<typeof setInterval> | undefined;

/** One clock for all moments on the page: there may be thousands, and few of them are told in other words now. */
function eachHalfMinute(listener: () => void): () => void {
  listeners.add(listener);
  ticking ??= setInterval(() => {
    for (const one of listeners) one();
  }, MINUTE_MS / 2);
  return () => {
    listeners.delete(listener);
    if (listeners.size) return;
    clearInterval(ticking);
    ticking = undefined;
  };
}

/** The present, told every so often. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const ticking = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(ticking);
  }, [everyMs]);
  return now;
}

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
] as const;
const WORDS = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "narrow" });
const NOW = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "narrow" }).format(0, "second");

export function relative(at: number, now: number): string {
  const ms = at - now;
  if (Math.abs(ms) > 14 * 86_400_000) return new Date(at).toLocaleDateString();
  for (const [unit, unitMs] of UNITS) {
    if (Math.abs(ms) >= unitMs) return WORDS.format(Math.trunc(ms / unitMs), unit);
  }
  return NOW;
}

/** A length of time, in the unit that suits it. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${decimal(ms / 1000, 1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}
