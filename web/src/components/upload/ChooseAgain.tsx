import { useTranslation } from "react-i18next";
import { FileQuestionMark, ImageUp } from "@/design/icons";
import { useUploadActions, useUploadState } from "@/hooks/useUpload";
import type { Collected } from "@/lib/files/collect";
import { toaster } from "@/stores/toastStore";
import { FilePicker } from "./FilePicker";
import styles from "./ChooseAgain.module.css";

/** Asks for the files of uploads that a reload has interrupted; not there without such uploads. */
export function ChooseAgain() {
  const { t } = useTranslation();
  const actions = useUploadActions();
  const count = useUploadState((state) => state.summary.needsFile);
  if (count === 0) return null;

  const provide = async (picked: Collected | Promise<Collected>) => {
    const { sources } = await picked;
    const matched = await actions.provide(sources);
    if (matched.length > 0) {
      toaster.show({ tone: "success", title: t("chooseAgain.matched", { count: matched.length }) });
    } else {
      toaster.show({
        tone: "warning",
        title: t("chooseAgain.noneTitle"),
        text: t("chooseAgain.noneText"),
      });
    }
  };

  return (
    <section className={styles["banner"]} aria-labelledby="choose-again">
      <span className={styles["icon"]}>
        <FileQuestionMark aria-hidden size={22} />
      </span>
      <div className={styles["texts"]}>
        <h2 id="choose-again" className={styles["title"]}>
          {t("chooseAgain.title", { count })}
        </h2>
        <p className={styles["text"]}>{t("chooseAgain.text")}</p>
      </div>
      <FilePicker
        icon={ImageUp}
        onPick={(picked) => {
          void provide(picked);
        }}
      >
        {t("chooseAgain.action")}
      </FilePicker>
    </section>
  );
}
