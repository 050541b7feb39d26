import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { openCount, shareOfAll } from "@/components/progress/phases";
import { useUploadState } from "@/hooks/useUpload";
import { useFormat } from "@/lib/i18n/format";
import { resultText } from "./summaryText";

/** Readers of screens get one message in this time at most, and each step of the progress once. */
export const ANNOUNCE_MS = 5_000;
const STEP_PERCENT = 10;

/** Says how far the uploads are to those who do not see the panel. Once in the page. */
export function LiveSummary() {
  const { t } = useTranslation();
  const format = useFormat();
  const summary = useUploadState((state) => state.summary);
  const [message, setMessage] = useState("");
  const saidAt = useRef(Number.NEGATIVE_INFINITY);
  const saidKey = useRef("");

  const isRunning = openCount(summary) > 0;
  const step = Math.floor((shareOfAll(summary) * 100) / STEP_PERCENT);
  const key = isRunning ? `${step}/${summary.failed}` : "end";
  const wasRunning = useRef(false);
  const text = isRunning
    ? t("announce.progress", {
        percent: format.percent(shareOfAll(summary)),
        done: summary.completed,
        total: summary.total,
      })
    : t("announce.end", { result: resultText(t, summary) });
  const latest = useRef(text);

  useEffect(() => {
    latest.current = text;
  }, [text]);

  useEffect(() => {
    const isEnd = key === "end";
    // A list that was there already when the page was opened has not just ended.
    if (isEnd ? !wasRunning.current : key === saidKey.current) return;
    wasRunning.current = !isEnd;
    const say = () => {
      saidAt.current = performance.now();
      saidKey.current = key;
      setMessage(latest.current);
    };
    const delay = isEnd ? 0 : Math.max(0, saidAt.current + ANNOUNCE_MS - performance.now());
    const timer = setTimeout(say, delay);
    return () => {
      clearTimeout(timer);
    };
  }, [key]);

  return (
    <div role="status" aria-live="polite" className="visually-hidden">
      {message}
    </div>
  );
}
