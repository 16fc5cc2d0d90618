import { Coins, Keyboard, LogOut } from "lucide-react";
import { useState } from "react";
import { Link } from "wouter";
import { MyTools } from "./MyTools.tsx";
import { PushChoice } from "./PushChoice.tsx";
import { switchPushOff } from "./push.ts";
import { StandingPrompt } from "./StandingPrompt.tsx";
import { type Session, signOut } from "./session.ts";
import { Button, buttonClass } from "./ui/Button.tsx";
import { Dialog } from "./ui/Dialog.tsx";
import { Field, INPUT } from "./ui/Field.tsx";
import { sayError } from "./ui/Toast.tsx";
import { setTheme, type Theme, theme } from "./ui/theme.ts";

type PreferencesProps = { session: Session; onHelp: () => void; onClose: () => void };

export default function Preferences({ session, onHelp, onClose }: PreferencesProps) {
  const [chosen, choose] = useState(theme);
  return (
    <Dialog title="Preferences" onClose={onClose}>
      <p className="foreign text-sm text-soft">
        Signed in as <strong className="font-semibold text-ink">{session.name}</strong>
        {session.admin && ", administrator"}
        {session.expires_at && `, until ${new Date(session.expires_at).toLocaleString()}`}
      </p>
      <Field label="Colours">
        <select
          className={INPUT}
          value={chosen}
          onChange={(event) => {
            const value = event.target.value as Theme;
            setTheme(value);
            choose(value);
          }}
        >
          <option value="system">As the system</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </Field>
      <StandingPrompt path="/me/prompt" label="About you" hint="What models are told of you, in all your chats" />
      <PushChoice />
      <MyTools />
      <div className="flex flex-wrap justify-between gap-2">
        <Button onClick={onHelp}>
          <Keyboard size={16} aria-hidden />
          Keys
        </Button>
        <Link href="/usage" className={buttonClass()} onClick={onClose}>
          <Coins size={16} aria-hidden />
          Usage and cost
        </Link>
        <Button onClick={() => void leave().catch((error) => sayError("Sign out", error))}>
          <LogOut size={16} aria-hidden />
          Sign out
        </Button>
      </div>
    </Dialog>
  );
}

/** Sign out. What this browser was to be told is not for whoever comes next; without an answer it ends all the same. */
async function leave(): Promise<void> {
  await switchPushOff().catch(() => {});
  await signOut();
}
