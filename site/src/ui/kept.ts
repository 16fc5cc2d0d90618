/**
 * What this browser keeps for the page, by name. Its storage may be full or forbidden: then nothing is kept, and nothing
 * else goes wrong.
 */

const PREFIX = "chatcluster.";

export function kept(name: string): string {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}

/** Nothing is kept of an empty text. */
export function keep(name: string, text: string): void {
  try {
    if (text) localStorage.setItem(PREFIX + name, text);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // what was to be kept is still shown
  }
}

/** Everything whose name begins so. */
export function forgetKept(beginning: string): void {
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX + beginning));
    for (const name of names) localStorage.removeItem(name);
  } catch {
    // there is nothing
  }
}

export type Change = { from: string; to: string };

/** Hear of what another tab keeps under this name. Returns how to stop that. */
export function onKeptElsewhere(name: string, tell: (change: Change) => void): () => void {
  const listen = ({ key, oldValue, newValue }: StorageEvent) => {
    if (key === PREFIX + name) tell({ from: oldValue ?? "", to: newValue ?? "" });
  };
  window.addEventListener("storage", listen);
  return () => window.removeEventListener("storage", listen);
}
