import { type FormEvent, useState } from "react";
import { ApiError } from "./client/index.ts";
import { isUnauthenticated, sessionHasEnded, signIn } from "./session.ts";
import { Button } from "./ui/Button.tsx";
import { Field, INPUT } from "./ui/Field.tsx";
import { Notice } from "./ui/Notice.tsx";

export function SignIn() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [hasEnded] = useState(sessionHasEnded);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem("");
    try {
      await signIn(token.trim());
    } catch (error) {
      setProblem(reason(error));
      setBusy(false);
    }
  };
  return (
    <main className="flex min-h-full items-center justify-center p-4">
      <form onSubmit={submit} className="flex w-full max-w-sm flex-col gap-4">
        <img src="/icon.svg" alt="" width={40} height={40} />
        <h1 className="text-2xl font-semibold leading-tight">Sign in to chatcluster</h1>
        {hasEnded && (
          <Notice tone="info" role="status">
            Your session has ended. Sign in to go on where you were.
          </Notice>
        )}
        <Field
          label="Token"
          hint={
            <>
              An administrator makes one:{" "}
              <code className="font-mono text-xs">chatcluster token create --user NAME</code>
            </>
          }
        >
          <input
            className={`${INPUT} font-mono`}
            type="password"
            // biome-ignore lint/a11y/noAutofocus: there is nothing else to do here
            autoFocus
            autoComplete="current-password"
            spellCheck={false}
            placeholder="ccl_…"
            value={token}
            onChange={(event) => setToken(event.target.value)}
          />
        </Field>
        {problem && (
          <Notice tone="bad" role="alert">
            {problem}
          </Notice>
        )}
        <Button type="submit" look="main" disabled={isBusy || !token.trim()}>
          {isBusy ? "Signing in …" : "Sign in"}
        </Button>
      </form>
    </main>
  );
}

function reason(error: unknown): string {
  if (isUnauthenticated(error)) return "This token is not valid: it may be mistyped, expired or revoked.";
  if (error instanceof ApiError && error.status === 429) return "Too many wrong tokens came from here. Wait a moment.";
  if (error instanceof ApiError && error.isTransient) return "The server cannot be reached right now. Try again.";
  return error instanceof Error ? error.message : String(error);
}
