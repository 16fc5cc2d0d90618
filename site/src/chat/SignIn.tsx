import { ExternalLink } from "lucide-react";
import { useState } from "react";
import { api } from "../server.ts";
import { Button, buttonClass } from "../ui/Button.tsx";
import { sayError } from "../ui/Toast.tsx";

/**
 * Begins to sign in at a server of tools: its authorization server's address is asked for at the press, as it is good
 * for ten minutes, and opened at the next one, as a browser opens no window for an answer that came later.
 */
export function SignIn({ slug, again = false }: { slug: string; again?: boolean }) {
  const [url, setUrl] = useState("");
  const begin = async () => {
    try {
      const { url: found } = await api.post<{ url: string }>(`/me/mcp-servers/${encodeURIComponent(slug)}/login`);
      if (!/^https?:/.test(found)) throw new Error("the server gave an address that is none");
      setUrl(found);
    } catch (error) {
      sayError("Sign in", error);
    }
  };
  if (!url)
    return <Button onClick={() => void begin()}>{again ? `Sign in at ${slug} again` : `Sign in at ${slug}`}</Button>;
  return (
    <a href={url} target="_blank" rel="noopener noreferrer" className={buttonClass("main")} onClick={() => setUrl("")}>
      Go to {new URL(url).host}
      <ExternalLink size={14} aria-hidden />
    </a>
  );
}
