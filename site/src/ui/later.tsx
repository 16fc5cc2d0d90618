/**
 * Parts of the page that are loaded when they are first shown, and are there the moment they have come.
 *
 * React's `lazy` holds back what it waited for until 300 ms have passed since a fallback was shown anywhere on the page.
 * A chat, the Markdown in it and the cards in it wait for each other, so a page would take a second to open.
 */

import { type ComponentType, type ReactNode, useEffect, useSyncExternalStore } from "react";

type More = {
  /** Shown until it is there. */
  meanwhile?: ReactNode;
  /** It could not be loaded, and is asked for again when it is shown again. Without this that is thrown, to the boundary around it. */
  onFailed?: (error: unknown) => void;
};

export type Later<P> = ComponentType<P & More> & {
  /** Load it now: it will be wanted. If that fails, it is asked for again when it is. */
  load: () => Promise<void>;
};

const failed = new Set<() => void>();

/** What could not be loaded is asked for again when it is shown again. */
export function loadAgain(): void {
  for (const again of failed) again();
  failed.clear();
}

type State<P> = { Component?: ComponentType<P>; error?: unknown };

export function later<P extends object>(read: () => Promise<ComponentType<P>>): Later<P> {
  let state: State<P> = {};
  let asked: Promise<void> | null = null;
  const listeners = new Set<() => void>();
  const tell = (next: State<P>) => {
    state = next;
    for (const listener of listeners) listener();
  };
  const forget = () => {
    asked = null;
    state = {};
  };
  const fail = (error: unknown) => {
    if (!listeners.size) return forget(); // nobody was waiting
    failed.add(forget);
    tell({ error });
  };
  const load = () => {
    asked ??= read().then((Component) => tell({ Component }), fail);
    return asked;
  };
  const subscribe = (listener: () => void) => {
    listeners.add(listener);
    void load();
    return () => listeners.delete(listener);
  };
  // biome-ignore lint/correctness/noComponentHookFactories: one is made for each part of the page, as it is imported
  function Shown({ meanwhile = null, onFailed, ...props }: P & More): ReactNode {
    const { Component, error } = useSyncExternalStore(subscribe, () => state);
    // biome-ignore lint/correctness/useExhaustiveDependencies: once for each failure
    useEffect(() => {
      if (!error || !onFailed) return;
      forget();
      onFailed(error);
    }, [error]);
    if (error && !onFailed) throw error;
    return Component ? <Component {...(props as unknown as P)} /> : meanwhile;
  }
  return Object.assign(Shown, { load });
}
