/** Elements, icons and short texts that all parts of the page use. */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * Returns a new element.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} [attributes] `class`, listeners such as `onclick`, `data` for a dataset, properties of
 *   the element, and attributes; those that are undefined or null are left out.
 * @param {...Child} children Texts are inserted as texts, never as HTML.
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null) continue;
    if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node) /** @type {any} */ (node)[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.filter(isShown));
  return node;
}

/** @param {Child} child @returns {child is Node | string} */
const isShown = (child) => child instanceof Node || (typeof child === "string" && child !== "");

/**
 * Returns an icon of the page's symbols, which screen readers skip.
 *
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Returns a button with an icon and a text.
 *
 * @param {string} iconName
 * @param {string} text
 * @param {() => void} onclick
 * @param {Record<string, any>} [attributes]
 */
export const iconTextButton = (iconName, text, onclick, attributes = {}) =>
  element(
    "button",
    { type: "button", class: "quiet", ...attributes, onclick },
    icon(iconName),
    element("span", {}, text),
  );

/**
 * Returns a button that shows an icon alone.
 *
 * @param {string} iconName
 * @param {string} name Its accessible name, shown as a tooltip.
 * @param {() => void} onclick
 * @param {string} [className]
 */
export const iconButton = (iconName, name, onclick, className = "icon-button") =>
  element("button", { type: "button", class: className, title: name, "aria-label": name, onclick }, icon(iconName));

/**
 * Returns an element of the page by its id.
 *
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no element ${id}`);
  return /** @type {T} */ (node);
}

/**
 * Returns the last part of a path or URL.
 *
 * @param {string} path
 */
export const fileName = (path) => path.split(/[\\/]/).filter(Boolean).at(-1) ?? path;

/**
 * Returns a size as people write it, such as `16 MB`.
 *
 * @param {number} bytes
 */
export function sizeText(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  const [value, unit] = bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} ${unit}`;
}

/** Whether the user asked for less motion. */
export const hasReducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * Scrolls an element into view, smoothly unless the user asked for less motion.
 *
 * @param {Element} node
 * @param {ScrollLogicalPosition} block
 */
export const scrollTo = (node, block) =>
  node.scrollIntoView({ block, behavior: hasReducedMotion() ? "auto" : "smooth" });
