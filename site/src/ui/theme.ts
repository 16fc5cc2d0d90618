/** Light, dark, or what the system says. Kept in this browser. */

import { keep, kept } from "./kept.ts";

export type Theme = "system" | "light" | "dark";

const KEY = "theme";

export function theme(): Theme {
  const chosen = kept(KEY);
  return chosen === "light" || chosen === "dark" ? chosen : "system";
}

export function setTheme(value: Theme): void {
  keep(KEY, value);
  showTheme();
}

export function showTheme(): void {
  const value = theme();
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}
