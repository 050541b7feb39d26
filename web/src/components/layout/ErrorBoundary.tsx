import { Component, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Button } from "@/components/common/Button";
import { EmptyState } from "@/components/common/EmptyState";
import { RotateCw, TriangleAlert } from "@/design/icons";

interface ErrorBoundaryProps {
  readonly children: ReactNode;
}

/**
 * Keeps a defect of a page, or a part of it that could not be loaded, away from the uploads. React
 * writes the error to the console.
 */
export class ErrorBoundary extends Component<ErrorBoundaryProps, { readonly hasFailed: boolean }> {
  override state = { hasFailed: false };

  static getDerivedStateFromError() {
    return { hasFailed: true };
  }

  override render() {
    return this.state.hasFailed ? <Failure /> : this.props.children;
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
