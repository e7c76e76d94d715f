/** What the page shows, in its URL: a copied link shows the same, and back and forward work. */

import { keep } from "./image_input.js";

/**
 * @typedef {object} State
 * @property {"search" | "ask" | "add"} view
 * @property {string} words
 * @property {string} like Id of the image that is searched by.
 * @property {string} about Id of the image that the next question is about.
 * @property {string} image Id of the image that is open in the lightbox.
 * @property {string[]} filters Expressions as the server takes them.
 * @property {number} cutoff 0 for none.
 * @property {number} number
 * @property {"" | "zh" | "en"} lang Empty for the language of the browser.
 * @property {number} upload Key of the image file that is searched by, 0 for none; it is kept in the history, not in
 *   the URL.
 */

/** Numbers of results to choose from. */
export const NUMBERS = [10, 20, 50, 100];

/** @type {Readonly<State>} */
const DEFAULTS = {
  view: "search",
  words: "",
  like: "",
  about: "",
  image: "",
  filters: [],
  cutoff: 0,
  number: 20,
  lang: "",
  upload: 0,
};

/** @type {((state: State) => void)[]} */
const listeners = [];

/** @type {State} */
let current = stateIn(location.search, history.state);

/** @returns {Readonly<State>} */
export const state = () => current;

/**
 * Calls a function now and whenever the state changes.
 *
 * @param {(state: State) => void} listener
 */
export function onState(listener) {
  listeners.push(listener);
  listener(current);
}

/**
 * Changes what the page shows.
 *
 * @param {Partial<State>} changes
 * @param {{replace?: boolean}} [options] Whether the present entry of the history is replaced.
 */
export function go(changes, { replace = false } = {}) {
  const next = { ...current, ...changes };
  if (isSame(next, current)) return;
  current = next;
  // The lightbox closes by going back if that is where it was opened from.
  const entry = { upload: current.upload, isPushed: replace ? Boolean(history.state?.isPushed) : true };
  history[replace ? "replaceState" : "pushState"](entry, "", urlOf(current));
  notify();
}

/** Closes the lightbox: by going back if the page opened it, so that the history does not fill up. */
export function leaveImage() {
  if (history.state?.isPushed) history.back();
  else go({ image: "" }, { replace: true });
}

/**
 * Searches by an image of the index.
 *
 * @param {string} id
 */
export const searchLike = (id) => go({ view: "search", like: id, words: "", upload: 0, image: "" });

/**
 * Searches by an image file.
 *
 * @param {File} file
 */
export const searchByFile = (file) => go({ view: "search", upload: keep(file), like: "", image: "" });

/**
 * Shows where to ask about an image of the index.
 *
 * @param {string} id
 */
export const askAbout = (id) => go({ view: "ask", about: id, image: "" });

/**
 * Returns the URL that shows a state, relative to the page.
 *
 * @param {State} shown
 */
export function urlOf(shown) {
  /** @type {[string, string][]} */
  const fields = [];
  for (const name of /** @type {const} */ (["view", "words", "like", "about", "cutoff", "number", "image", "lang"])) {
    if (shown[name] !== DEFAULTS[name]) fields.push([name, String(shown[name])]);
  }
  fields.push(...shown.filters.map((filter) => /** @type {[string, string]} */ (["filter", filter])));
  return fields.length ? `?${new URLSearchParams(fields)}` : location.pathname;
}

/**
 * @param {string} query
 * @param {any} entry State of the history's entry.
 * @returns {State}
 */
function stateIn(query, entry) {
  const fields = new URLSearchParams(query);
  const text = (/** @type {string} */ name) => fields.get(name) ?? "";
  const view = text("view");
  const lang = text("lang");
  const cutoff = Number(text("cutoff"));
  const number = Number(text("number"));
  return {
    view: view === "ask" || view === "add" ? view : "search",
    words: text("words"),
    like: text("like"),
    about: text("about"),
    image: text("image"),
    filters: fields.getAll("filter"),
    cutoff: cutoff > 0 && cutoff <= 1 ? cutoff : 0,
    number: NUMBERS.includes(number) ? number : DEFAULTS.number,
    lang: lang === "zh" || lang === "en" ? lang : "",
    upload: Number(entry?.upload ?? 0),
  };
}

/** @param {State} one @param {State} other */
const isSame = (one, other) => one.upload === other.upload && urlOf(one) === urlOf(other);

const notify = () => listeners.forEach((listener) => listener(current));

addEventListener("popstate", (event) => {
  current = stateIn(location.search, event.state);
  notify();
});
