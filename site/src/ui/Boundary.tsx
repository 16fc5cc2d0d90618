import { Component, type ReactNode } from "react";
import { Button } from "./Button.tsx";
import { loadAgain } from "./later.tsx";
import { Notice } from "./Notice.tsx";

type BoundaryProps = {
  /** With another one it is tried anew. */
  of?: string;
  children: ReactNode;
};

/** What goes wrong as a part of the page is shown is told in its place, and takes nothing else along. */
export class Boundary extends Component<BoundaryProps, { problem: unknown }> {
  override state: { problem: unknown } = { problem: null };

  static getDerivedStateFromError(problem: unknown) {
    return { problem: problem ?? "something unknown" };
  }

  override componentDidUpdate(before: BoundaryProps): void {
    if (this.state.problem && before.of !== this.props.of) this.again();
  }

  private again(): void {
    loadAgain();
    this.setState({ problem: null });
  }

  override render(): ReactNode {
    const { problem } = this.state;
    if (!problem) return this.props.children;
    return (
      <main id="main" className="mx-auto w-full max-w-3xl flex-1 p-5">
        <h1 className="sr-only">This cannot be shown</h1>
        <Notice
          tone="bad"
          role="alert"
          action={
            <>
              <Button onClick={() => this.again()}>Try again</Button>
              <Button onClick={() => location.reload()}>Reload</Button>
            </>
          }
        >
          This cannot be shown: {problem instanceof Error ? problem.message : String(problem)}
        </Notice>
      </main>
    );
  }
}
