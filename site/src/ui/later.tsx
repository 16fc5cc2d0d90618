/**
 * Parts of the page that are loaded when they are first shown, and are there the moment they have come.
 *
 * React's `lazy` holds back what it waited for until 300 ms have passed since a fallback was shown anywhere on the page.
 * A chat, the Markdown in it and the cards in it wait for each other, so a page would take a second to open.
 */

import { type ComponentType, type ReactNode, useSyncExternalStore } from "react";

export type Later<P> = ComponentType<P & { meanwhile?: ReactNode }> & {
  /** Load it now: it will be wanted. */
  load: () => void;
};

const failed = new Set<() => void>();

/** What could not be loaded is asked for again when it is shown again. */
export function loadAgain(): void {
  for (const again of failed) again();
  failed.clear();
}

type State<P> = { Component?: ComponentType<P>; error?: unknown };

/** `meanwhile` is shown until it is there. What cannot be loaded is thrown, to the boundary around it. */
export function later<P extends object>(read: () => Promise<ComponentType<P>>): Later<P> {
  let state: State<P> = {};
  let isAsked = false;
  const listeners = new Set<() => void>();
  const tell = (next: State<P>) => {
    state = next;
    for (const listener of listeners) listener();
  };
  const forget = () => {
    isAsked = false;
    state = {};
  };
  const load = () => {
    if (isAsked) return;
    isAsked = true;
    read().then(
      (Component) => tell({ Component }),
      (error) => {
        failed.add(forget);
        tell({ error });
      },
    );
  };
  const subscribe = (listener: () => void) => {
    listeners.add(listener);
    load();
    return () => listeners.delete(listener);
  };
  // biome-ignore lint/correctness/noComponentHookFactories: one is made for each part of the page, as it is imported
  function Shown({ meanwhile = null, ...props }: P & { meanwhile?: ReactNode }): ReactNode {
    const { Component, error } = useSyncExternalStore(subscribe, () => state);
    if (error) throw error;
    return Component ? <Component {...(props as unknown as P)} /> : meanwhile;
  }
  return Object.assign(Shown, { load });
}
