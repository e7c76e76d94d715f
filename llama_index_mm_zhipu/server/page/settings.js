/** Language and theme, which the browser remembers. */

import { go, onState, state } from "./state.js";
import { byId } from "./dom.js";
import { language, setLanguage, words } from "./words.js";

/** @typedef {"auto" | "light" | "dark"} Theme */

/** @type {Theme[]} */
const THEMES = ["auto", "light", "dark"];

/** @type {(() => void)[]} */
const listeners = [];

/** @type {Theme} */
let theme = "auto";

/**
 * Calls a function whenever the language changes.
 *
 * @param {() => void} listener
 */
export const onLanguage = (listener) => void listeners.push(listener);

/** Applies language and theme, and lets the buttons of the header change them. */
export function initSettings() {
  const stored = remembered("theme");
  applyTheme(THEMES.find((each) => each === stored) ?? "auto");
  setLanguage(firstLanguage());
  showButtons();
  byId("theme").addEventListener("click", () => {
    applyTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    remember("theme", theme);
    showButtons();
  });
  byId("language").addEventListener("click", () => {
    const chosen = language() === "zh" ? "en" : "zh";
    remember("language", chosen);
    go({ lang: chosen }, { replace: true });
  });
  onState(({ lang }) => {
    if (!lang || lang === language()) return;
    setLanguage(lang);
    showButtons();
    listeners.forEach((listener) => listener());
  });
}

/** @returns {"zh" | "en"} Of the URL, as chosen before, or of the browser. */
function firstLanguage() {
  const chosen = state().lang || remembered("language");
  if (chosen === "zh" || chosen === "en") return chosen;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** @param {Theme} chosen */
function applyTheme(chosen) {
  theme = chosen;
  document.documentElement.dataset.theme = chosen;
}

function showButtons() {
  const button = byId("theme");
  button.title = words().theme[theme];
  button.setAttribute("aria-label", words().theme[theme]);
  const other = byId("language");
  other.textContent = words().otherLanguage;
  other.title = words().switchLanguage;
  other.setAttribute("aria-label", `${words().otherLanguage} – ${words().switchLanguage}`);
}

/** @param {string} name @returns {string | null} */
function remembered(name) {
  try {
    return localStorage.getItem(`mmzhipu.${name}`);
  } catch {
    // Browsers may forbid storage.
    return null;
  }
}

/** @param {string} name @param {string} value */
function remember(name, value) {
  try {
    localStorage.setItem(`mmzhipu.${name}`, value);
  } catch {
    // The choice lasts as long as the page.
  }
}
