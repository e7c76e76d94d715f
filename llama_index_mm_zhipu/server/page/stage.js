/** The image of the lightbox: it fits into the window or is enlarged, and fingers move on to the next one. */

import { element } from "./dom.js";
import { createImage } from "./result_parts.js";

/** How far a finger moves sideways for the next image, in pixels. */
const SWIPE = 60;

/**
 * Returns the stage with an image in a frame.
 *
 * @param {string} id
 * @param {string} alt
 * @param {(step: number) => void} move Shows the next image (1), or the one before (-1).
 */
export function createStage(id, alt, move) {
  const frame = createFrame(id, alt);
  const stage = element("div", { class: "stage" }, frame);
  frame.addEventListener("click", (event) => toggleZoom(stage, event));
  moveBySwipes(stage, move);
  return { stage, frame };
}

/**
 * Returns whether an element is in a stage whose image is enlarged.
 *
 * @param {Element} node
 */
export const isZoomed = (node) => node.closest(".stage.zoomed") !== null;

/**
 * Shows the image in its own size, or fits it into the window again.
 *
 * @param {HTMLElement} stage
 * @param {MouseEvent} [event] A click, whose point stays in view.
 */
export function toggleZoom(stage, event) {
  const frame = stage.firstElementChild;
  if (!frame?.classList.contains("loaded")) return;
  const before = frame.getBoundingClientRect();
  const across = event ? (event.clientX - before.left) / before.width : 0.5;
  const down = event ? (event.clientY - before.top) / before.height : 0.5;
  const isLarge = stage.classList.toggle("zoomed");
  // What scrolls must be within reach of the keyboard.
  if (isLarge) stage.tabIndex = 0;
  else stage.removeAttribute("tabindex");
  stage.scrollTo({
    left: across * frame.clientWidth - stage.clientWidth / 2,
    top: down * frame.clientHeight - stage.clientHeight / 2,
    behavior: "instant",
  });
}

/**
 * Returns the image in a frame of the same proportions, so that boxes can be placed by shares of its sides.
 *
 * @param {string} id
 * @param {string} alt
 */
function createFrame(id, alt) {
  const frame = createImage(id, alt, "whole");
  const image = frame.querySelector("img");
  image?.addEventListener("load", () => {
    frame.style.setProperty("--ratio", String(image.naturalWidth / image.naturalHeight));
    frame.style.setProperty("--width", `${image.naturalWidth}px`);
  });
  return frame;
}

/**
 * @param {HTMLElement} stage
 * @param {(step: number) => void} move
 */
function moveBySwipes(stage, move) {
  /** @type {Touch | undefined} */
  let start;
  stage.addEventListener(
    "touchstart",
    (event) => {
      start = event.touches.length === 1 ? event.touches[0] : undefined;
    },
    { passive: true },
  );
  stage.addEventListener("touchend", (event) => {
    const end = event.changedTouches[0];
    if (!start || isZoomed(stage) || (visualViewport?.scale ?? 1) > 1) return;
    const [across, down] = [end.clientX - start.clientX, end.clientY - start.clientY];
    if (Math.abs(across) > SWIPE && Math.abs(across) > 2 * Math.abs(down)) move(across < 0 ? 1 : -1);
  });
}
