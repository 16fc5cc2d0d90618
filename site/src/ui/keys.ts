/** Keys that work anywhere on the page. Single letters can be switched off, and never count while one writes. */

import { useEffect, useRef } from "react";
import { keep, kept } from "./kept.ts";

export type Shortcut = {
  keys: string;
  what: string;
  run: () => void;
  /** Where the key is something else's. */
  unless?: (target: EventTarget | null) => boolean;
};

const LETTERS_KEY = "letter-keys";

export const lettersAreOn = (): boolean => kept(LETTERS_KEY) !== "off";
export const setLetters = (on: boolean): void => keep(LETTERS_KEY, on ? "on" : "off");

const IS_MAC = typeof navigator !== "undefined" && /mac|iphone|ipad/i.test(navigator.userAgent);

/**
 * Whether a key belongs to an input method that is putting characters together: Enter takes a word then, and sends nothing.
 * Safari tells of that very Enter when it is over; what remains of it is the code of keys that input methods have.
 */
export const isComposing = ({ isComposing, keyCode }: { isComposing: boolean; keyCode: number }): boolean =>
  isComposing || keyCode === KEY_OF_INPUT_METHODS;
const KEY_OF_INPUT_METHODS = 229;

/** Whether one writes on the screen: its keyboards have no Shift+Enter, so Enter begins a new line there, and a button sends. */
export const isTouch = (): boolean => matchMedia("(hover: none) and (pointer: coarse)").matches;

/** As people read it: `Mod` is the Command key on a Mac, and Ctrl elsewhere. */
export const shown = (keys: string): string => keys.replace("Mod", IS_MAC ? "⌘" : "Ctrl");

export function useShortcuts(shortcuts: readonly Shortcut[]): void {
  const latest = useRef(shortcuts);
  latest.current = shortcuts;
  useEffect(() => {
    let typed = "";
    let isCovered = false;
    // What lies over the page and closes by this very key may be gone when the key comes here.
    const look = () => {
      isCovered = isLayerOpen();
    };
    const onKey = (event: KeyboardEvent) => {
      // A browser that fills a field in by itself tells of a key without a name.
      if (!event.key || isComposing(event) || event.defaultPrevented || isCovered) return;
      const chord = named(event);
      const isLetter = chord.length === 1;
      if (isLetter && (!lettersAreOn() || isWriting(event.target))) return;
      const hit = latest.current.find(
        ({ keys, unless }) => (keys === chord || (typed && keys === `${typed} ${chord}`)) && !unless?.(event.target),
      );
      typed = !hit && isLetter ? chord : "";
      if (!hit) return;
      event.preventDefault();
      hit.run();
    };
    window.addEventListener("keydown", look, true);
    window.addEventListener("keydown", onKey);
    return () => {
      window.removeEventListener("keydown", look, true);
      window.removeEventListener("keydown", onKey);
    };
  }, []);
}

/** What lies over the page has the keys to itself: behind it nothing moves. */
export const isLayerOpen = (): boolean =>
  document.querySelector("[role=dialog], [role=alertdialog], [role=menu]") !== null;

/** What is pressed with Alt is written, or the system's: Windows has Ctrl and Alt for AltGr. */
function named(event: KeyboardEvent): string {
  const modified = IS_MAC ? event.metaKey : event.ctrlKey;
  if (event.altKey || (!modified && (event.metaKey || event.ctrlKey))) return "";
  const key = latin(event);
  if (!modified) return key;
  return `Mod+${event.shiftKey && /^[a-z]$/i.test(key) ? "Shift+" : ""}${key.length === 1 ? key.toUpperCase() : key}`;
}

/** Of a keyboard with another alphabet the letter that stands in the same place of a Latin one. */
function latin({ key, code, shiftKey }: KeyboardEvent): string {
  const letter = /^\p{L}$/u.test(key) && !/^[a-z]$/i.test(key) && /^Key([A-Z])$/.exec(code ?? "")?.[1];
  if (!letter) return key;
  return shiftKey ? letter : letter.toLowerCase();
}

export function isWriting(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  );
}
