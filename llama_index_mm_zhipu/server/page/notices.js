/** Notices: errors with what to do, and hints. */

import { ApiError } from "./api.js";
import { element, icon, iconTextButton } from "./dom.js";
import { words } from "./words.js";

/** @typedef {{icon: string, text: string, run: () => void}} Action */

/**
 * Returns a notice.
 *
 * @param {"error" | "info"} type
 * @param {string} title
 * @param {string} [detail]
 * @param {Action[]} [actions]
 */
export function notice(type, title, detail = "", actions = []) {
  return element(
    "div",
    { class: `notice ${type}`, role: type === "error" ? "alert" : undefined },
    icon("alert"),
    element(
      "div",
      { class: "notice-text" },
      title ? element("p", { class: "notice-title" }, title) : null,
      detail ? element("p", { class: "notice-detail" }, detail) : null,
    ),
    ...actions.map((action) => iconTextButton(action.icon, action.text, action.run, { class: "secondary" })),
  );
}

/**
 * Returns the notice of an error.
 *
 * @param {unknown} error
 * @param {() => void} [retry]
 * @param {Action[]} [actions] Further ones.
 */
export function errorNotice(error, retry, actions = []) {
  const { title, detail } = describe(error);
  const again = retry ? [{ icon: "retry", text: words().retry, run: retry }] : [];
  return notice("error", title, detail, [...again, ...actions]);
}

/**
 * Returns what to say about an error, in the language of the page, and the server's message.
 *
 * @param {unknown} error
 * @returns {{title: string, detail: string}}
 */
export function describe(error) {
  const texts = /** @type {Record<string, string>} */ (words().errors);
  if (!(error instanceof ApiError)) return { title: texts.unexpected, detail: String(error) };
  const isSelfExplaining = error.code === "offline" || error.code === "unauthorized";
  return { title: texts[error.code] ?? texts.unexpected, detail: isSelfExplaining ? "" : error.message };
}

/**
 * Returns the hints of a view that has nothing to show yet.
 *
 * @param {string} title
 * @param {string[][]} hints Icon, heading and text of each.
 */
export const hintList = (title, hints) =>
  element(
    "div",
    { class: "welcome" },
    element("h3", { class: "welcome-title" }, title),
    element(
      "ul",
      { class: "hints" },
      ...hints.map(([name, heading, text]) =>
        element("li", {}, icon(name), element("strong", {}, heading), element("p", {}, text)),
      ),
    ),
  );
