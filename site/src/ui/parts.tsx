/**
 * Parts of the page that are loaded later, and of which none takes the rest of the page along: what cannot be loaded is told
 * in its place, and what is slow to come says so. What one opens is loaded ahead once the page is at rest, so that it is there
 * even while no server answers.
 */

import { type ComponentType, type ReactNode, useEffect, useState } from "react";
import { Button } from "./Button.tsx";
import { type Later, later } from "./later.tsx";
import { Loading, Notice } from "./Notice.tsx";
import { sayError } from "./Toast.tsx";

/** Something within the page. */
export function laterPart<P extends object>(what: string, read: () => Promise<ComponentType<P>>): Later<P> {
  const Part = later(read);
  // biome-ignore lint/correctness/noComponentHookFactories: see later.tsx
  function Shown({ meanwhile, ...props }: P & { meanwhile?: ReactNode }): ReactNode {
    const [problem, setProblem] = useState<unknown>(null);
    if (!problem) {
      const until = meanwhile ?? <Slowly what={what} />;
      return <Part {...(props as unknown as P)} meanwhile={until} onFailed={setProblem} />;
    }
    return (
      <>
        {meanwhile}
        <Notice tone="bad" role="alert" action={<Button onClick={() => setProblem(null)}>Try again</Button>}>
          Loading {what} failed: {words(problem)}
        </Notice>
      </>
    );
  }
  return Object.assign(Shown, { load: Part.load });
}

/** A dialog: one that cannot be loaded is not opened. */
export function laterLayer<P extends { onClose: () => void }>(read: () => Promise<ComponentType<P>>): ComponentType<P> {
  const Layer = later(read);
  loadAhead(Layer.load);
  // biome-ignore lint/correctness/noComponentHookFactories: see later.tsx
  return function Shown(props: P): ReactNode {
    const fail = (error: unknown) => {
      sayError("Opening this", error);
      props.onClose();
    };
    return <Layer {...props} meanwhile={<Opening onClose={props.onClose} />} onFailed={fail} />;
  };
}

const words = (problem: unknown) => (problem instanceof Error ? problem.message : String(problem));

const PATIENCE_MS = 500;

/** What comes in a moment is not announced. */
function useIsSlow(): boolean {
  const [isSlow, setSlow] = useState(false);
  useEffect(() => {
    const waiting = setTimeout(() => setSlow(true), PATIENCE_MS);
    return () => clearTimeout(waiting);
  }, []);
  return isSlow;
}

function Slowly({ what }: { what: string }): ReactNode {
  return useIsSlow() && <Loading what={what} />;
}

/** Where a dialog will be. */
function Opening({ onClose }: { onClose: () => void }): ReactNode {
  const isSlow = useIsSlow();
  if (!isSlow) return null;
  return (
    <div className="fixed inset-x-0 top-1/3 z-50 mx-auto w-fit max-w-[calc(100vw-2rem)] rounded-xl border border-line bg-page shadow-2xl">
      <Notice tone="busy" role="status" action={<Button onClick={onClose}>Cancel</Button>}>
        Loading …
      </Notice>
    </div>
  );
}

const waiting: (() => Promise<void>)[] = [];
let mayLoad = false;
let loading = 0;

function loadAhead(load: () => Promise<void>): void {
  waiting.push(load);
  if (mayLoad) void loadWaiting();
}

/** A part that appears at a press, and not with what a server says. */
export function ahead<P extends { load: () => Promise<void> }>(part: P): P {
  loadAhead(part.load);
  return part;
}

/** Load what has not been asked for yet, unless the user saves data. */
export function beginLoadingAhead(): void {
  if ((navigator as { connection?: { saveData?: boolean } }).connection?.saveData) return;
  mayLoad = true;
  void loadWaiting();
}

async function loadWaiting(): Promise<void> {
  loading++;
  await Promise.all(waiting.splice(0).map((load) => load()));
  loading--;
}

/** Whether what fails to load now may have been asked for by nobody. */
export const isLoadingAhead = (): boolean => loading > 0;
