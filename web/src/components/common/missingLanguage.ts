import { i18n } from "@/lib/i18n";
import { toaster } from "@/stores/toastStore";

/** Say so when the texts of a language could not be loaded: the page stays in the one before. */
export async function reportMissing(isShown: Promise<boolean>): Promise<void> {
  if (await isShown) return;
  toaster.show({
    tone: "warning",
    title: i18n.t("language.failed"),
    text: i18n.t("language.failedText"),
  });
}
