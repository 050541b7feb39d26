import { memo } from "react";
import { splitName } from "@/lib/files/names";
import { classes } from "@/lib/classes";
import styles from "./FileName.module.css";

/** A file name on one line: its middle is cut out where there is no room, its extension stays. */
export const FileName = memo(function FileName({
  name,
  className,
}: {
  readonly name: string;
  readonly className?: string | undefined;
}) {
  const [head, tail] = splitName(name);
  return (
    <span title={name} className={classes(styles["name"], className)}>
      {/* A name from right to left is read so, and yet begins where the others begin. */}
      <span dir="auto" className={styles["text"]}>
        <span className={styles["head"]}>{head}</span>
        {tail && <span className={styles["tail"]}>{tail}</span>}
      </span>
    </span>
  );
});
