import { CSPProvider } from "@base-ui/react/csp-provider";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { readAhead } from "./ahead.ts";
import { pauseWhileHidden, reconnectWhenOnline } from "./client/index.ts";
import { queries, tab } from "./server.ts";
import { endSessionWhenRefused, followLinks, followOtherTabs, readSessionAhead } from "./session.ts";
import "./styles.css";
import { Boundary } from "./ui/Boundary.tsx";
import { ignoreDrops } from "./ui/drop.ts";
import { beginLoadingAhead, isLoadingAhead } from "./ui/parts.tsx";
import { Toasts } from "./ui/Toast.tsx";
import { showTheme } from "./ui/theme.ts";

/** By then what the address asks for is there, as a rule. */
const AT_REST_MS = 3000;

readAhead(location);
readSessionAhead();
showTheme();
endSessionWhenRefused();
followOtherTabs();
followLinks();
pauseWhileHidden(tab, document);
reconnectWhenOnline(tab, window);
ignoreDrops();
reloadOnceAfterDeploy();
addEventListener("load", () => setTimeout(beginLoadingAhead, AT_REST_MS));

createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <CSPProvider disableStyleElements>
      <QueryClientProvider client={queries}>
        <Boundary>
          <App />
        </Boundary>
        <Toasts />
      </QueryClientProvider>
    </CSPProvider>
  </StrictMode>,
);

/**
 * During a deploy this page may ask for a file that the next version does not have. Its index has the new names. Where no
 * server answers, the page that is there is worth more than none.
 */
function reloadOnceAfterDeploy(): void {
  window.addEventListener("vite:preloadError", () => {
    if (!isLoadingAhead()) void reloadOnce().catch(() => {});
  });
}

async function reloadOnce(): Promise<void> {
  if (sessionStorage.getItem("chatcluster.reloaded") === location.pathname) return;
  const index = await fetch("/", { method: "HEAD", cache: "no-store" });
  if (!index.ok) return;
  sessionStorage.setItem("chatcluster.reloaded", location.pathname);
  location.reload();
}
