/** The chip of an image that is searched by, or that a question is about. */

import { imageUrl } from "./api.js";
import { element, icon, iconButton } from "./dom.js";
import { words } from "./words.js";

/**
 * Shows the chip of an image, or none.
 *
 * @param {HTMLElement} container
 * @param {File | string} image A file, or the id of an image of the index; empty for none.
 * @param {string} text
 * @param {() => void} onRemove
 */
export function showAttachment(container, image, text, onRemove) {
  container.replaceChildren(...(image ? [chip(image, text, onRemove)] : []));
}

/**
 * Returns a small image.
 *
 * @param {File | string} image As for `showAttachment`.
 * @param {string} alt
 */
export function thumbnail(image, alt) {
  const source = typeof image === "string" ? imageUrl(image, "thumbnail") : URL.createObjectURL(image);
  const node = element("img", { src: source, alt, class: "small-image", draggable: false });
  const release = () => source.startsWith("blob:") && URL.revokeObjectURL(source);
  node.addEventListener("load", release);
  node.addEventListener("error", () => {
    release();
    // The server reads formats that the browser does not.
    node.replaceWith(icon("image"));
  });
  return node;
}

/**
 * @param {File | string} image
 * @param {string} text
 * @param {() => void} onRemove
 */
const chip = (image, text, onRemove) =>
  element(
    "span",
    { class: "chip image-chip", title: typeof image === "string" ? image : image.name },
    thumbnail(image, ""),
    element("span", {}, text),
    iconButton("close", words().remove, onRemove, "chip-remove"),
  );
