/**
 * A value that changes often, for those who show it: whatever happens within a frame is told once.
 *
 * In a hidden tab there are no frames; a timer takes their place. `subscribe` and `get` are what React's
 * `useSyncExternalStore` asks for, and of use without React.
 */

export class Store<T> {
  private listeners = new Set<() => void>();
  private shown: T;
  private value: T;
  private cancel: (() => void) | null = null;
  private readonly nextFrame: (flush: () => void) => () => void;

  constructor(value: T, nextFrame: (flush: () => void) => () => void = onNextFrame) {
    this.shown = value;
    this.value = value;
    this.nextFrame = nextFrame;
  }

  /** The value as it was told last. */
  get = (): T => this.shown;

  /** The value as it is now, told or not. */
  get now(): T {
    return this.value;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Change it; it is told with the next frame. */
  set(value: T): void {
    this.value = value;
    this.cancel ??= this.nextFrame(() => this.flush());
  }

  /** Tell it now. */
  flush(): void {
    this.cancel?.();
    this.cancel = null;
    if (Object.is(this.shown, this.value)) return;
    this.shown = this.value;
    for (const listener of this.listeners) listener();
  }
}

const HIDDEN_MS = 200;

function onNextFrame(flush: () => void): () => void {
  if (typeof requestAnimationFrame === "undefined") return onTimer(flush, 0);
  // Whichever comes first: a tab that is hidden before its next frame would else never tell.
  const frame = requestAnimationFrame(flush);
  const stop = onTimer(flush, HIDDEN_MS);
  return () => {
    cancelAnimationFrame(frame);
    stop();
  };
}

function onTimer(flush: () => void, ms: number): () => void {
  const pending = setTimeout(flush, ms);
  return () => clearTimeout(pending);
}
