import type { ReactNode } from "react";
import { Logo } from "./Logo";

/**
 * The page before it is known what it shows. index.html has the same elements, so that they are
 * on the screen before any script; src/design/shell.css styles both.
 *
 * @param children - for readers of screens; index.html has no texts in anybody's language.
 */
export function Shell({ children }: { readonly children?: ReactNode }) {
  return (
    <div className="shell">
      <header className="shell-header">
        <div className="shell-bar">
          <span className="shell-brand">
            <Logo />
            Sluice
          </span>
        </div>
      </header>
      <main className="shell-main" aria-busy="true">
        <span className="shell-spinner" />
        {children}
      </main>
    </div>
  );
}
