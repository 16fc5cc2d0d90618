import { useLayoutEffect, useRef } from "react";
import type { CallOutput } from "../client/index.ts";
import { printed } from "./visible.ts";

const SHOWN_CHARACTERS_MAX = 20_000;
const NEAR_PX = 24;

/** What a running command has printed, as it prints it: its end, unless one reads further up. */
export default function Output({ output }: { output: CallOutput }) {
  const box = useRef<HTMLPreElement>(null);
  const isAtEnd = useRef(true);
  const isCut = output.offset > 0 || output.text.length > SHOWN_CHARACTERS_MAX;
  // biome-ignore lint/correctness/useExhaustiveDependencies: when there is more of it
  useLayoutEffect(() => {
    if (box.current && isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [output]);
  return (
    // biome-ignore lint/a11y/useSemanticElements: it is no group of fields
    <pre
      ref={box}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
      tabIndex={0}
      role="group"
      aria-label="Output so far"
      aria-live="off"
      dir="ltr"
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        isAtEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      }}
      className="foreign max-h-60 overflow-auto whitespace-pre-wrap bg-page px-3 py-2 font-mono text-xs"
    >
      {isCut && <span className="text-soft">… what came before is not shown{"\n"}</span>}
      {printed(output.text, SHOWN_CHARACTERS_MAX)}
    </pre>
  );
}
