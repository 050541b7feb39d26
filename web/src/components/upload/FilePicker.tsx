import { useRef, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Button, type ButtonVariant } from "@/components/common/Button";
import type { LucideIcon } from "@/design/icons";
import { useUploadState } from "@/hooks/useUpload";
import { acceptOf, extensionsOf } from "@/lib/engine/precheck";
import { collectFiles, collectHandles, type Collected } from "@/lib/files/collect";

export interface FilePickerProps {
  readonly icon: LucideIcon;
  readonly children: ReactNode;
  readonly onPick: (collected: Collected | Promise<Collected>) => void;
  /** A folder with all of its folders, instead of files. */
  readonly isFolder?: boolean;
  readonly variant?: ButtonVariant;
  readonly size?: "sm" | "md";
  readonly className?: string | undefined;
}

/** A button that opens the browser's dialog for files, with handles where the browser has them. */
export function FilePicker({
  icon,
  children,
  onPick,
  isFolder = false,
  variant = "secondary",
  size = "md",
  className,
}: FilePickerProps) {
  const { t } = useTranslation();
  const types = useUploadState((state) => state.limits.contentTypes);
  const input = useRef<HTMLInputElement>(null);
  const open = () => {
    if (isFolder || !window.showOpenFilePicker) {
      input.current?.click();
      return;
    }
    window
      .showOpenFilePicker({
        multiple: true,
        id: "photos",
        types: [
          { description: t("drop.chooseFiles"), accept: { "image/*": [...extensionsOf(types)] } },
        ],
      })
      .then(
        (handles) => {
          onPick(collectHandles(handles));
        },
        (error: unknown) => {
          // Closed without a choice. Where pages may not use handles, there is the plain dialog.
          if (error instanceof DOMException && error.name === "AbortError") return;
          input.current?.click();
        },
      );
  };
  return (
    <>
      <Button icon={icon} variant={variant} size={size} className={className} onClick={open}>
        {children}
      </Button>
      <input
        ref={input}
        type="file"
        multiple
        hidden
        tabIndex={-1}
        data-testid={isFolder ? "folder-input" : "file-input"}
        accept={isFolder ? undefined : acceptOf(types)}
        webkitdirectory={isFolder ? "" : undefined}
        onChange={({ currentTarget }) => {
          // A copy: the list of the input is emptied, so that the same file can be chosen again.
          const files = [...(currentTarget.files ?? [])];
          currentTarget.value = "";
          if (files.length > 0) onPick(collectFiles(files));
        }}
      />
    </>
  );
}
