import { useEffect, useState } from "react";
import type { ThemedToken } from "shiki/core";
import { visibleInCode } from "../workspace/visible.ts";
import { CopyButton } from "./CopyButton.tsx";

type CodeBlockProps = { code: string; language: string; isIncomplete: boolean };

/**
 * A block of code. It gets its colours once it is complete: until then each token would begin them anew. Nothing in it is
 * hidden, as code can be made to read otherwise than it runs; what is copied is the code itself.
 */
export function CodeBlock({ code, language, isIncomplete }: CodeBlockProps) {
  const shown = visibleInCode(code);
  const lines = useTokens(shown, language, isIncomplete);
  return (
    <div className="my-3 overflow-hidden rounded-xl border border-line">
      <div className="flex items-center justify-between border-b border-line bg-raised py-0.5 pl-3 pr-1 text-xs text-soft">
        <span className="foreign font-mono">{language || "text"}</span>
        <CopyButton text={code} label="Copy code" />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard */}
      <pre tabIndex={0} dir="ltr" className="code-token overflow-x-auto bg-side p-3 text-[0.85em] leading-relaxed">
        <code>{lines ? <Coloured lines={lines} /> : shown}</code>
      </pre>
    </div>
  );
}

function Coloured({ lines }: { lines: ThemedToken[][] }) {
  return lines.map((line, row) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: lines and tokens have no other name
    <span key={row}>
      {line.map((token, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: see above
        <span key={at} style={{ color: token.color }}>
          {token.content}
        </span>
      ))}
      {row < lines.length - 1 && "\n"}
    </span>
  ));
}

function useTokens(code: string, language: string, isIncomplete: boolean): ThemedToken[][] | null {
  const [done, setDone] = useState<{ code: string; lines: ThemedToken[][] | null } | null>(null);
  useEffect(() => {
    if (isIncomplete || !language) return;
    let isWanted = true;
    void import("./code.ts")
      .then(({ tokens }) => tokens(code, language))
      .then((lines) => isWanted && setDone({ code, lines }))
      .catch(() => {}); // without colours it can be read as well
    return () => {
      isWanted = false;
    };
  }, [code, language, isIncomplete]);
  return done?.code === code ? done.lines : null;
}
