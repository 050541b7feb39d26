import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { Link, useRoute } from "wouter";
import { IconButton } from "@/components/common/IconButton";
import { Menu, type MenuItem } from "@/components/common/Menu";
import { useIsPhotoOpen } from "@/components/gallery/cover";
import { Images, Languages, Monitor, Moon, Sun, Upload, type LucideIcon } from "@/design/icons";
import { THEMES, type Theme } from "@/design/theme";
import { classes } from "@/lib/classes";
import { LANGUAGES, languageName } from "@/lib/i18n";
import { uiStore, useUi } from "@/stores/uiStore";
import { Logo } from "./Logo";
import styles from "./AppShell.module.css";

export interface AppShellProps {
  /** The menu of who is logged in. */
  readonly account?: ReactNode;
  readonly children: ReactNode;
}

/** What is around every page: header, navigation, and the ways to set up the page itself. */
export function AppShell({ account, children }: AppShellProps) {
  const { t } = useTranslation();
  const isCovered = useIsPhotoOpen();
  return (
    <div inert={isCovered} className={styles["shell"]}>
      <a className={styles["skip"]} href="#content">
        {t("common.skip")}
      </a>
      <header className={styles["header"]}>
        <div className={styles["bar"]}>
          <Link href="/" className={styles["brand"]}>
            <Logo />
            Sluice
          </Link>
          <MainNav className={styles["topNav"]} />
          <div className={styles["tools"]}>
            <LanguageMenu />
            <ThemeMenu />
            {account}
          </div>
        </div>
      </header>
      {/* The skip link has to be able to give it the focus. */}
      <main id="content" tabIndex={-1} className={styles["content"]}>
        {children}
      </main>
      <MainNav className={styles["bottomNav"]} />
    </div>
  );
}

function MainNav({ className }: { readonly className: string | undefined }) {
  const { t } = useTranslation();
  return (
    <nav aria-label={t("nav.label")} className={className}>
      <NavLink href="/" pattern="/" icon={Upload} label={t("nav.upload")} />
      <NavLink href="/photos" pattern="/photos/:id?" icon={Images} label={t("nav.gallery")} />
    </nav>
  );
}

interface NavLinkProps {
  readonly href: string;
  readonly pattern: string;
  readonly icon: LucideIcon;
  readonly label: string;
}

function NavLink({ href, pattern, icon: Icon, label }: NavLinkProps) {
  const [isHere] = useRoute(pattern);
  return (
    <Link
      href={href}
      aria-current={isHere ? "page" : undefined}
      className={classes(styles["navLink"], isHere && styles["here"])}
    >
      <Icon aria-hidden size={18} />
      {label}
    </Link>
  );
}

const THEME_ICONS: Readonly<Record<Theme, LucideIcon>> = { auto: Monitor, dark: Moon, light: Sun };

function ThemeMenu() {
  const { t } = useTranslation();
  const chosen = useUi((state) => state.theme);
  return (
    <Menu
      items={THEMES.map((theme) => ({
        id: theme,
        label: t(`theme.${theme}`),
        icon: THEME_ICONS[theme],
        isChecked: theme === chosen,
        onSelect: () => {
          uiStore.getState().set({ theme });
        },
      }))}
      trigger={(props) => (
        <IconButton {...props} icon={THEME_ICONS[chosen]} label={t("theme.label")} />
      )}
    />
  );
}

function LanguageMenu() {
  const { t } = useTranslation();
  const chosen = useUi((state) => state.language);
  const choose = (language: string | null) => () => {
    uiStore.getState().set({ language });
  };
  const items: MenuItem[] = [
    { id: "auto", label: t("language.auto"), isChecked: chosen === null, onSelect: choose(null) },
    ...LANGUAGES.map((language) => ({
      id: language,
      label: languageName(language),
      isChecked: chosen === language,
      onSelect: choose(language),
    })),
  ];
  return (
    <Menu
      items={items}
      trigger={(props) => <IconButton {...props} icon={Languages} label={t("language.label")} />}
    />
  );
}
