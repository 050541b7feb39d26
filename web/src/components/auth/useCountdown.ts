import { useEffect, useState } from "react";

/** Whole seconds left until a moment, in milliseconds since 1970; 0 without one or after it. */
export function useCountdown(until: number | null): number {
  const [now, setNow] = useState(() => Date.now());
  const left = until === null ? 0 : Math.max(0, Math.ceil((until - now) / 1000));
  useEffect(() => {
    if (until === null) return;
    const tick = () => {
      setNow(Date.now());
      if (Date.now() >= until) clearInterval(timer);
    };
    const timer = setInterval(tick, 500);
    return () => {
      clearInterval(timer);
    };
  }, [until]);
  return left;
}
