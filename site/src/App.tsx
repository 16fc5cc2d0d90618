import { Redirect, Route, Switch, useLocation } from "wouter";
import { NewChat } from "./chat/NewChat.tsx";
import { Layout } from "./Layout.tsx";
import { SignIn } from "./SignIn.tsx";
import { useSession } from "./session.ts";
import { Boundary } from "./ui/Boundary.tsx";
import { Button } from "./ui/Button.tsx";
import { later } from "./ui/later.tsx";
import { Empty, Loading, Notice } from "./ui/Notice.tsx";

const Conversation = later(async () => (await import("./chat/Conversation.tsx")).Conversation);
const Cluster = later(async () => (await import("./cluster/Cluster.tsx")).default);
const Usage = later(async () => (await import("./Usage.tsx")).default);
const LOADING = <Meanwhile what="the page" />;

// Wherever one begins, one goes to a chat.
void Conversation.load();

export function App() {
  const session = useSession();
  const [location] = useLocation();
  if (session.isPending) return <Meanwhile what="chatcluster" />;
  if (session.isError) return <Unreachable message={session.error.message} onRetry={() => void session.refetch()} />;
  if (!session.data) return <SignIn />;
  return (
    <Layout session={session.data}>
      <Boundary of={location}>
        <Switch>
          <Route path="/">{() => <NewChat />}</Route>
          <Route path="/chats/:id">{({ id }) => <Conversation key={id} id={id} meanwhile={LOADING} />}</Route>
          <Route path="/usage">
            <Usage meanwhile={LOADING} />
          </Route>
          <Route path="/cluster">
            <Redirect to="/cluster/replicas" replace />
          </Route>
          <Route path="/cluster/:page">{({ page }) => <Cluster page={page} meanwhile={LOADING} />}</Route>
          <Route>
            <NotFound />
          </Route>
        </Switch>
      </Boundary>
    </Layout>
  );
}

/** A page of its own until the one that is asked for has come. */
function Meanwhile({ what }: { what: string }) {
  return (
    <main id="main" className="min-h-0 flex-1">
      <h1 className="sr-only">Loading</h1>
      <Loading what={what} />
    </main>
  );
}

function NotFound() {
  return (
    <main id="main" className="min-h-0 flex-1">
      <h1 className="sr-only">Not found</h1>
      <Empty title="There is nothing at this address">Choose a chat from the list, or begin a new one.</Empty>
    </main>
  );
}

function Unreachable({ message, onRetry }: { message: string; onRetry: () => void }) {
  return (
    <main className="mx-auto flex min-h-full max-w-md flex-col justify-center gap-4 p-4">
      <h1 className="text-2xl font-semibold">chatcluster cannot be reached</h1>
      <Notice tone="bad" role="alert" action={<Button onClick={onRetry}>Try again</Button>}>
        {message}
      </Notice>
    </main>
  );
}
