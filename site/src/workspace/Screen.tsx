import { useEffect, useState } from "react";
import { api } from "../server.ts";

const PAUSE_MS = 1000;
const ANSWER_MS_MAX = 10_000;

/** The screen of a workspace as it is now, to look on. It is asked for while it is seen, one picture after the other. */
export function Screen({ chatId }: { chatId: string }) {
  const { picture, problem } = useScreen(`${api.baseUrl}/chats/${chatId}/workspace/screen`);
  return (
    <figure className="flex flex-col gap-1">
      {picture && <img src={picture} alt="The screen, as it is now" className="w-full rounded-lg border border-line" />}
      <figcaption className="text-xs text-soft">
        {problem || (picture ? "The screen, view only" : "The screen …")}
      </figcaption>
    </figure>
  );
}

type Seen = { picture: string; problem: string };

function useScreen(url: string): Seen {
  const [seen, setSeen] = useState<Seen>({ picture: "", problem: "" });
  useEffect(() => {
    const over = new AbortController();
    let last = "";
    const show = (picture: Blob) => {
      URL.revokeObjectURL(last);
      last = URL.createObjectURL(picture);
      setSeen({ picture: last, problem: "" });
    };
    void follow(url, show, (problem) => setSeen(({ picture }) => ({ picture, problem })), over.signal);
    return () => {
      over.abort();
      URL.revokeObjectURL(last);
    };
  }, [url]);
  return seen;
}

/** The browser keeps the last picture, and asks whether it is the same still. */
async function follow(
  url: string,
  show: (picture: Blob) => void,
  tell: (problem: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let shown = "";
  while (!signal.aborted) {
    try {
      const patience = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
      const answer = document.hidden ? null : await fetch(url, { cache: "no-cache", signal: patience });
      const tag = answer?.headers.get("ETag") ?? "";
      if (answer?.ok && (tag !== shown || !tag)) show(await answer.blob());
      if (answer) shown = answer.ok ? tag : "";
      if (answer && !answer.ok) tell("The screen cannot be seen now.");
    } catch {
      shown = ""; // the next picture says that it is seen again, also if it is the same
      if (!signal.aborted) tell("The screen cannot be reached.");
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}
