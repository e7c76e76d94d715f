/** The text in an image: its lines in a list, and their boxes over the image. */

import { element } from "./dom.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Line} Line */

let showsAllBoxes = false;

/**
 * Returns the text in an image, and adds the boxes of its lines to the frame of the image.
 *
 * @param {import("./api.js").Result} result
 * @param {Line[]} lines
 * @param {HTMLElement} frame
 * @returns {HTMLElement[]}
 */
export function textSection(result, lines, frame) {
  if (!lines.length) {
    return result.text
      ? [element("h3", {}, words().textInImage), element("p", { class: "page-text" }, result.text)]
      : [];
  }
  const boxes = lines.map(boxOf);
  frame.append(...boxes);
  const matches = lines.filter((line) => line.is_match).length;
  const toggle = element("input", { type: "checkbox", checked: showsAllBoxes, role: "switch" });
  const apply = () => {
    showsAllBoxes = toggle.checked;
    frame.classList.toggle("all-boxes", showsAllBoxes);
  };
  toggle.addEventListener("change", apply);
  apply();
  return [
    element(
      "div",
      { class: "text-head" },
      element("h3", {}, words().textInImage),
      element("label", { class: "switch" }, toggle, element("span", {}, words().showAllBoxes)),
    ),
    matches ? element("p", { class: "quiet-text" }, words().matches(matches)) : element("span"),
    element("ol", { class: "lines" }, ...lines.map((line, index) => lineItem(line, boxes[index]))),
  ];
}

/** @param {Line} line */
function boxOf({ box: [left, top, right, bottom], text, is_match: isMatch }) {
  const box = element("span", { class: isMatch ? "box match" : "box", title: text, "aria-hidden": "true" });
  // Boxes that reach out of the image would lie over the text beside it.
  const percent = (/** @type {number} */ share) => `${Math.min(1, Math.max(0, share)) * 100}%`;
  Object.assign(box.style, {
    left: percent(left),
    top: percent(top),
    right: percent(1 - right),
    bottom: percent(1 - bottom),
  });
  return box;
}

/**
 * @param {Line} line
 * @param {HTMLElement} box
 */
function lineItem(line, box) {
  const button = element(
    "button",
    { type: "button", class: "line" },
    line.is_match ? element("mark", {}, line.text) : line.text,
  );
  const mark = (/** @type {boolean} */ isActive) => () => {
    box.classList.toggle("active", isActive);
    button.classList.toggle("active", isActive);
  };
  for (const [node, begin, end] of /** @type {const} */ ([
    [button, "mouseenter", "mouseleave"],
    [button, "focus", "blur"],
    [box, "mouseenter", "mouseleave"],
  ])) {
    node.addEventListener(begin, mark(true));
    node.addEventListener(end, mark(false));
  }
  return element("li", {}, button);
}
