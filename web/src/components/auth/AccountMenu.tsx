import { useTranslation } from "react-i18next";
import { Menu, type MenuItem } from "@/components/common/Menu";
import { LogOut, Monitor } from "@/design/icons";
import { useCurrentUser, useLogOut, useSessionState } from "./session";
import styles from "./auth.module.css";

export interface AccountMenuProps {
  /** Of the page, above that to log out. */
  readonly items?: readonly MenuItem[];
  /** Called before the session ends because the person wants that. */
  readonly onLogOut?: () => void;
}

/** Who is logged in, and log-out, which ends the session in all tabs. */
export function AccountMenu({ items = [], onLogOut }: AccountMenuProps) {
  const { t } = useTranslation();
  const logOut = useLogOut();
  const state = useSessionState();
  const user = useCurrentUser();
  const isKeyless = state === "keyless";
  const name = user?.email ?? (isKeyless ? t("auth.localUser") : (user?.userId ?? ""));
  const leave: MenuItem = {
    id: "logOut",
    label: t("auth.logOut"),
    icon: LogOut,
    beginsGroup: items.length > 0,
    onSelect: () => {
      onLogOut?.();
      void logOut();
    },
  };
  return (
    <Menu
      align="end"
      items={isKeyless ? items : [...items, leave]}
      header={
        <div className={styles["who"]}>
          <span className={styles["whoLabel"]}>
            {isKeyless ? t("auth.localHint") : t("auth.loggedInAs")}
          </span>
          <bdi className={styles["whoName"]}>{name}</bdi>
        </div>
      }
      trigger={(props) => (
        <button
          type="button"
          {...props}
          className={styles["avatar"]}
          aria-label={t("auth.accountMenu", { name })}
          title={name}
        >
          {isKeyless ? <Monitor aria-hidden size={18} /> : <span aria-hidden>{initial(name)}</span>}
        </button>
      )}
    />
  );
}

function initial(name: string): string {
  return (Array.from(name)[0] ?? "·").toLocaleUpperCase();
}
