/** Keys that work anywhere on the page. Single letters can be switched off, and never count while one writes. */

import { useEffect, useRef } from "react";
import { keep, kept } from "./kept.ts";

export type Shortcut = { keys: string; what: string; run: () => void };

const LETTERS_KEY = "letter-keys";

export const lettersAreOn = (): boolean => kept(LETTERS_KEY) !== "off";
export const setLetters = (on: boolean): void => keep(LETTERS_KEY, on ? "on" : "off");

const IS_MAC = typeof navigator !== "undefined" && /mac|iphone|ipad/i.test(navigator.userAgent);

/** As people read it: `Mod` is the Command key on a Mac, and Ctrl elsewhere. */
export const shown = (keys: string): string => keys.replace("Mod", IS_MAC ? "⌘" : "Ctrl");

export function useShortcuts(shortcuts: readonly Shortcut[]): void {
  const latest = useRef(shortcuts);
  latest.current = shortcuts;
  useEffect(() => {
    let typed = "";
    const onKey = (event: KeyboardEvent) => {
      // A browser that fills a field in by itself tells of a key without a name.
      if (!event.key || event.isComposing || event.defaultPrevented || isLayerOpen()) return;
      const chord = named(event);
      const isLetter = chord === event.key && chord.length === 1;
      if (isLetter && (!lettersAreOn() || isWriting(event.target))) return;
      const hit = latest.current.find(({ keys }) => keys === chord || (typed && keys === `${typed} ${chord}`));
      typed = !hit && isLetter ? chord : "";
      if (!hit) return;
      event.preventDefault();
      hit.run();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}

/** What lies over the page has the keys to itself: behind it nothing moves. */
const isLayerOpen = (): boolean => document.querySelector("[role=dialog], [role=alertdialog], [role=menu]") !== null;

function named(event: KeyboardEvent): string {
  const modified = IS_MAC ? event.metaKey : event.ctrlKey;
  if (!modified) return event.altKey || event.metaKey || event.ctrlKey ? "" : event.key;
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  return `Mod+${event.shiftKey && /^[A-Z]$/.test(key) ? "Shift+" : ""}${key}`;
}

function isWriting(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}
