/** The view that answers questions: the conversation and the form below it. */

import { ApiError, ask, forgetChat, isAbort } from "./api.js";
import { showAttachment } from "./attachment.js";
import { byId } from "./dom.js";
import { createFilterBar } from "./filters.js";
import { chooseFiles } from "./image_input.js";
import { hintList } from "./notices.js";
import { onLanguage } from "./settings.js";
import { go, onState, state } from "./state.js";
import { isEmpty, isReady, onStatus, status } from "./status.js";
import { TurnView } from "./turn.js";
import { words } from "./words.js";

/** @typedef {import("./turn.js").Turn} Turn */

/** How close to its end the page counts as scrolled to the end, in pixels. */
const NEAR_END = 120;

/** How often a question is sent to a conversation whose last answer has not ended yet, and after how many milliseconds. */
const MAX_ATTEMPTS = 20;
const RETRY_DELAY = 500;

/** @type {HTMLTextAreaElement} */
const input = byId("question");
/** @type {HTMLButtonElement} */
const send = byId("send");
const stop = byId("stop-answer");
const turnArea = byId("turns");

/** @type {TurnView[]} */
let views = [];

/** Id of the conversation on the server; empty before the first answer. */
let chat = "";

/** @type {File | null} */
let file = null;

/** @type {AbortController | null} */
let running = null;

/** Starts the view. */
export function initAsk() {
  createFilterBar("ask-filters");
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  input.addEventListener("keydown", (event) => {
    // Enter also ends the input of Chinese characters; Safari tells so by the code alone.
    const isComposing = event.isComposing || event.keyCode === 229;
    if (event.key !== "Enter" || event.shiftKey || isComposing) return;
    event.preventDefault();
    submit();
  });
  input.addEventListener("input", fitInput);
  stop.addEventListener("click", () => running?.abort());
  byId("new-conversation").addEventListener("click", startAnew);
  byId("ask-image").addEventListener("click", () =>
    chooseFiles({ accept: "image/*" }, ([chosen]) => chosen?.file && askByFile(chosen.file)),
  );
  onState(({ view, about }) => {
    if (about) file = null;
    showImage();
    if (view === "ask") fitInput();
  });
  onStatus(() => {
    byId("mock").hidden = !status()?.llm.is_mock;
    input.maxLength = status()?.limits.words ?? 4000;
    showControls();
  });
  onLanguage(() => {
    showImage();
    showControls();
    views.forEach((view) => view.render());
  });
  showControls();
}

/**
 * Makes an image file the one that the next question is about.
 *
 * @param {File} chosen
 */
export function askByFile(chosen) {
  file = chosen;
  go({ view: "ask", about: "", image: "" });
  showImage();
  input.focus();
}

function showImage() {
  showAttachment(byId("ask-attachment"), file ?? state().about, words().aboutChip, () => {
    file = null;
    go({ about: "" }, { replace: true });
    showImage();
  });
}

function showControls() {
  send.hidden = running !== null;
  send.disabled = !isReady() || isEmpty();
  stop.hidden = running === null;
  byId("new-conversation").hidden = !views.length;
  if (!views.length)
    turnArea.replaceChildren(...(isEmpty() ? [] : [hintList(words().askFirstTitle, words().askHints)]));
}

function fitInput() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

function submit() {
  const question = input.value.trim();
  if (!(question || file || state().about) || running || send.disabled) return;
  /** @type {Turn} */
  const turn = {
    question,
    file,
    about: file ? "" : state().about,
    phase: "finding",
    text: "",
    sources: [],
    answer: null,
    error: null,
  };
  const view = new TurnView(turn, () => run(view));
  if (!views.length) turnArea.replaceChildren();
  views.push(view);
  turnArea.append(view.node);
  input.value = "";
  file = null;
  fitInput();
  go({ about: "" }, { replace: true });
  showImage();
  run(view);
}

/** @param {TurnView} view */
async function run(view) {
  if (running) return;
  running = new AbortController();
  const { turn } = view;
  Object.assign(turn, { phase: "finding", text: "", sources: [], answer: null, error: null });
  view.render();
  showControls();
  view.node.scrollIntoView({ block: "start" });
  byId("ask-status").textContent = words().answering;
  try {
    const asked = { question: turn.question, image: turn.file, like: turn.about, filters: state().filters, chat };
    for await (const { type, data } of askWhenFree(asked, running.signal)) receive(view, type, data);
    // The stream has ended; an answer would have completed it.
    if (!turn.answer) turn.phase = turn.text ? "broken" : "failed";
    if (turn.phase === "failed") turn.error = new ApiError("offline");
  } catch (error) {
    fail(turn, error);
  }
  running = null;
  follow(view, () => view.render());
  showControls();
  byId("ask-status").textContent = turn.answer ? `${words().answer}: ${turn.text}` : "";
}

/**
 * Asks; the server notices that an answer was stopped when the model sends the next piece, and is waited for.
 *
 * @param {Parameters<typeof ask>[0]} asked
 * @param {AbortSignal} signal
 */
async function* askWhenFree(asked, signal) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      yield* ask(asked, signal);
      return;
    } catch (error) {
      if (!(error instanceof ApiError) || attempt === MAX_ATTEMPTS) throw error;
      // A conversation without an answer is no loss if the server was restarted.
      if (error.code === "gone" && asked.chat && !views.some(({ turn }) => turn.answer)) asked = { ...asked, chat: "" };
      else if (error.code !== "conflict") throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY));
    signal.throwIfAborted();
  }
}

/**
 * @param {TurnView} view
 * @param {string} type
 * @param {any} data
 */
function receive(view, type, data) {
  const { turn } = view;
  if (type === "sources") {
    chat = data.chat;
    turn.sources = data.sources;
    turn.phase = "answering";
    follow(view, () => view.render());
  } else if (type === "text") {
    turn.text += data.text;
    showSoon(view);
  } else if (type === "answer") {
    Object.assign(turn, { answer: data, text: data.text, sources: data.sources, phase: "done" });
  } else if (type === "error") {
    throw new ApiError(data.error.code, data.error.message);
  }
}

/**
 * @param {Turn} turn
 * @param {unknown} error
 */
function fail(turn, error) {
  if (isAbort(error)) turn.phase = "stopped";
  else if (turn.text && !(error instanceof ApiError)) turn.phase = "broken";
  else {
    turn.phase = "failed";
    turn.error = error instanceof ApiError ? error : new ApiError("offline");
  }
  if (error instanceof ApiError && error.code === "gone") chat = "";
}

let isDue = false;

/** Shows the text at the next frame, however many pieces arrive before. @param {TurnView} view */
function showSoon(view) {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    if (view.turn.phase !== "answering") return;
    follow(view, () => view.showText());
  });
}

/**
 * Makes a change to an answer, and scrolls along if the user is at the end of the page; the question stays in view.
 *
 * @param {TurnView} view
 * @param {() => void} change
 */
function follow({ node }, change) {
  const page = document.documentElement;
  const left = () => page.scrollHeight - page.clientHeight - page.scrollTop;
  const isAtEnd = left() < NEAR_END;
  change();
  const room = node.getBoundingClientRect().top - byId("main").offsetTop;
  if (isAtEnd && room > 0) scrollBy({ top: Math.min(left(), room), behavior: "instant" });
}

function startAnew() {
  running?.abort();
  // The server forgets old conversations by itself, too.
  if (chat) forgetChat(chat).catch(() => {});
  chat = "";
  views = [];
  showControls();
  input.focus();
}
