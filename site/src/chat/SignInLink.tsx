import { ExternalLink } from "lucide-react";

/** The address that a replica gives out for signing in at a server of tools. No other is made a link here. */
const SIGN_IN = /https?:\/\/[^\s/]+(\/oauth\/mcp\/sign-in\/[0-9a-f]+)/;

/** What a replica says, with its sign-in address as a link to this very page's server, whatever host the text names. */
export function WithSignInLink({ text }: { text: string }) {
  const [before, path, after] = text.split(SIGN_IN);
  if (!path) return text;
  return (
    <>
      {before}
      <a
        href={path}
        target="_blank"
        rel="noopener noreferrer"
        className="inline-flex items-center gap-1 text-accent underline"
      >
        Sign in
        <ExternalLink size={13} aria-hidden />
      </a>
      {after}
    </>
  );
}
