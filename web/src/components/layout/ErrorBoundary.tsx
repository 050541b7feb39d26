import { Component, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { EmptyState } from "@/components/common/EmptyState";
import { RotateCw, TriangleAlert } from "@/design/icons";

interface ErrorBoundaryProps {
  /** Where the page is: what has failed is tried again elsewhere. */
  readonly path: string;
  /** In place of what has failed; without it, the page can be reloaded. */
  readonly failure?: ReactNode;
  readonly children: ReactNode;
}

interface ErrorBoundaryState {
  readonly hasFailed: boolean;
  readonly path: string;
}

/**
 * Keeps a defect of a page, or a part of it that could not be loaded, away from the uploads. React
 * writes the error to the console.
 */
export class ErrorBoundary extends Component<ErrorBoundaryProps, ErrorBoundaryState> {
  override state = { hasFailed: false, path: this.props.path };

  static getDerivedStateFromError() {
    return { hasFailed: true };
  }

  static getDerivedStateFromProps(
    { path }: ErrorBoundaryProps,
    state: ErrorBoundaryState,
  ): ErrorBoundaryState | null {
    return path === state.path ? null : { hasFailed: false, path };
  }

  override render() {
    if (!this.state.hasFailed) return this.props.children;
    return this.props.failure ?? <Failure />;
  }
}

function Failure() {
  const { t } = useTranslation();
  return (
    <div role="alert">
      <EmptyState
        tone="danger"
        icon={TriangleAlert}
        title={t("common.somethingFailed")}
        text={t("common.reloadText")}
        action={
          <Button
            variant="primary"
            icon={RotateCw}
            onClick={() => {
              location.reload();
            }}
          >
            {t("common.reload")}
          </Button>
        }
      />
    </div>
  );
}
