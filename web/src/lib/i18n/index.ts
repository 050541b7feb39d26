/**
 * Texts of the page. A language is one file in `locales/`; English is in the first view, others
 * are loaded when they are wanted.
 */
import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import en from "./locales/en.json";

type Texts = typeof en;

const files = import.meta.glob<{ default: Texts }>("./locales/*.json");

const languageOf = (path: string) => path.replace(/^.*\/|\.json$/g, "");

/** Codes of the languages that there are, such as `de`. */
export const LANGUAGES: readonly string[] = Object.keys(files).map(languageOf).sort();

const FALLBACK = "en";

/** Right-to-left languages, in case a file of one is added. */
const RIGHT_TO_LEFT = new Set(["ar", "fa", "he", "ur"]);

/** The language to show: that which was chosen, else the first of the browser that there is. */
export function pickLanguage(chosen: string | null, wanted: readonly string[]): string {
  for (const tag of chosen === null ? wanted : [chosen, ...wanted]) {
    const exact = LANGUAGES.find((language) => language.toLowerCase() === tag.toLowerCase());
    const found = exact ?? LANGUAGES.find((language) => language === tag.split("-")[0]);
    if (found !== undefined) return found;
  }
  return FALLBACK;
}

/**
 * Load the texts of a language, and show them. Returns whether they are shown: without its file,
 * the language before stays.
 */
export async function setLanguage(language: string): Promise<boolean> {
  if (!i18next.hasResourceBundle(language, "translation")) {
    const load = files[`./locales/${language}.json`];
    if (!load) return false;
    try {
      i18next.addResourceBundle(language, "translation", (await load()).default);
    } catch {
      return false;
    }
  }
  await i18next.changeLanguage(language);
  document.documentElement.lang = language;
  document.documentElement.dir = RIGHT_TO_LEFT.has(language) ? "rtl" : "ltr";
  return true;
}

/** Name of a language in itself, such as "Deutsch". */
export function languageName(language: string): string {
  const name = new Intl.DisplayNames([language], { type: "language" }).of(language) ?? language;
  return name.charAt(0).toLocaleUpperCase(language) + name.slice(1);
}

/** Prepare the texts; to be awaited before the first component is drawn. As `setLanguage`. */
export async function startI18n(chosen: string | null): Promise<boolean> {
  await i18next.use(initReactI18next).init({
    lng: FALLBACK,
    fallbackLng: FALLBACK,
    resources: { en: { translation: en } },
    interpolation: { escapeValue: false },
    showSupportNotice: false,
    react: { useSuspense: false },
  });
  return setLanguage(pickLanguage(chosen, navigator.languages));
}

export { i18next as i18n };
