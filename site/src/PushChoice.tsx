import { useQuery } from "@tanstack/react-query";
import { Bell, BellOff } from "lucide-react";
import { useState } from "react";
import { type PushState, pushState, switchPushOff, switchPushOn } from "./push.ts";
import { Button } from "./ui/Button.tsx";
import { sayError } from "./ui/Toast.tsx";

const WORDS: Record<PushState, string> = {
  unable: "This browser cannot be told of answers; it needs HTTPS, or this machine.",
  "not set up": "This cluster is not set up to tell browsers of answers.",
  denied: "This browser is told not to let this page show notifications. Its settings can change that.",
  off: "This browser is not told when an answer is there.",
  on: "This browser is told when an answer is complete or has failed, also when the page is closed.",
};

/** Notifications of answers, for this browser. */
export function PushChoice() {
  const [isBusy, setBusy] = useState(false);
  const query = useQuery({ queryKey: ["push"], queryFn: pushState, staleTime: 0, retry: false });
  const change = async (doing: string, deed: () => Promise<void>) => {
    setBusy(true);
    await deed().catch((error) => sayError(doing, error));
    await query.refetch();
    setBusy(false);
  };
  const state = query.data;
  return (
    <div className="flex flex-wrap items-center gap-2 text-sm">
      <p className="min-w-0 flex-1 text-soft">
        {query.error ? `Notifications: ${query.error.message}` : state ? WORDS[state] : "…"}
      </p>
      {state === "off" && (
        <Button disabled={isBusy} onClick={() => void change("Notify me", switchPushOn)}>
          <Bell size={16} aria-hidden />
          Notify me
        </Button>
      )}
      {state === "on" && (
        <Button disabled={isBusy} onClick={() => void change("Stop notifying me", switchPushOff)}>
          <BellOff size={16} aria-hidden />
          Stop notifying me
        </Button>
      )}
    </div>
  );
}
