/** The bar of filters: chips that can be removed, and a form that makes new ones from the metadata of the index. */

import { byId, element, icon, iconButton } from "./dom.js";
import {
  MIXED_OPERATORS,
  NUMBER_OPERATORS,
  TEXT_OPERATORS,
  isNumber,
  numberExpressions,
  readable,
  textExpression,
} from "./filter_expressions.js";
import { onLanguage } from "./settings.js";
import { go, onState, state } from "./state.js";
import { onStatus, status } from "./status.js";
import { words } from "./words.js";

/** @typedef {import("./api.js").Filterable} Filterable */

/**
 * Shows the filters in a container; all bars show the same ones.
 *
 * @param {string} id Id of the container.
 */
export function createFilterBar(id) {
  const bar = byId(id);
  const chips = element("ul", { class: "chips" });
  const open = element("button", { type: "button", class: "secondary small", "aria-expanded": "false" });
  const panel = element("div", { class: "filter-panel", hidden: true });
  bar.append(open, chips, panel);

  const setOpen = (/** @type {boolean} */ isOpen) => {
    panel.hidden = !isOpen;
    open.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) {
      panel.replaceChildren(filterForm(status()?.filters ?? [], () => setOpen(false)));
      panel.querySelector("select")?.focus();
    } else if (bar.contains(document.activeElement)) {
      open.focus();
    }
  };
  open.addEventListener("click", () => setOpen(Boolean(panel.hidden)));
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") setOpen(false);
  });
  const render = () => {
    open.replaceChildren(icon("filter"), element("span", {}, words().addFilter));
    open.setAttribute("aria-label", words().addFilter);
    chips.setAttribute("aria-label", words().addFilter);
    chips.hidden = !state().filters.length;
    chips.replaceChildren(...state().filters.map(chipOf));
    bar.hidden = !(status()?.filters.length || state().filters.length);
  };
  onState(render);
  onStatus(render);
  onLanguage(() => {
    setOpen(false);
    render();
  });
}

/** @param {string} filter */
function chipOf(filter) {
  const text = readable(filter, words().operators, words().keyNames);
  const remove = () => go({ filters: state().filters.filter((each) => each !== filter) });
  return element(
    "li",
    { class: "chip", title: filter },
    element("span", {}, text),
    iconButton("close", words().removeFilter(text), remove, "chip-remove"),
  );
}

/**
 * @param {Filterable[]} filterables
 * @param {() => void} close
 */
function filterForm(filterables, close) {
  const names = words().keyNames;
  // Those that the program adds to all images come last.
  const sorted = filterables.toSorted((one, other) => Number(one.key in names) - Number(other.key in names));
  const options = sorted.map((each) => element("option", { value: each.key }, names[each.key] ?? each.key));
  const key = element("select", {}, ...options);
  const operator = element("select");
  const values = element("div", { class: "filter-values" });
  const chosen = () => filterables.find((each) => each.key === key.value) ?? filterables[0];
  const showValues = () => values.replaceChildren(...valueFields(chosen(), operator.value));
  const showOperators = () => {
    const names = /** @type {Record<string, string>} */ (words().operators);
    operator.replaceChildren(...operatorsOf(chosen()).map((each) => element("option", { value: each }, names[each])));
    showValues();
  };
  key.addEventListener("change", showOperators);
  operator.addEventListener("change", showValues);
  if (filterables.length) showOperators();
  const form = element(
    "form",
    { class: "filter-form" },
    field(words().filterKey, key),
    field(words().filterOperator, operator),
    values,
    element(
      "div",
      { class: "filter-buttons" },
      element("button", { type: "submit", class: "primary small" }, words().filterApply),
      element("button", { type: "button", class: "secondary small", onclick: close }, words().filterCancel),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const added = expressionsOf(chosen(), operator.value, values);
    if (!added.length) {
      values.querySelector("input")?.focus();
      return;
    }
    close();
    go({ filters: [...new Set([...state().filters, ...added])] });
  });
  return form;
}

/** @param {Filterable} filterable @returns {readonly string[]} */
function operatorsOf({ types }) {
  if (!types.includes("text")) return NUMBER_OPERATORS;
  return types.includes("number") ? MIXED_OPERATORS : TEXT_OPERATORS;
}

/**
 * @param {Filterable} filterable
 * @param {string} operator
 */
function valueFields(filterable, operator) {
  const hasTexts = filterable.types.includes("text");
  if (operator === "between") {
    return [
      field(words().filterFrom, numberInput("value", filterable.min)),
      field(words().filterTo, numberInput("upper", filterable.max)),
    ];
  }
  const isList = operator.endsWith("in");
  const input = hasTexts
    ? element("input", { name: "value", autocomplete: "off", placeholder: isList ? words().filterList : "" })
    : numberInput("value", filterable.min);
  return [field(words().filterValue, input), hasTexts ? suggestions(filterable, input, isList) : ""];
}

/** @param {string} name @param {number | null} example */
const numberInput = (name, example) =>
  element("input", { name, type: "number", step: "any", placeholder: example === null ? "" : String(example) });

/**
 * @param {Filterable} filterable
 * @param {HTMLInputElement} input
 * @param {boolean} isList Whether values are added to those in the input.
 */
function suggestions(filterable, input, isList) {
  const take = (/** @type {string} */ value) => {
    const others = isList ? listed(input.value) : [];
    const kept = others.includes(value) ? others.filter((each) => each !== value) : [...others, value];
    input.value = kept.join(words().separator);
    input.focus();
  };
  return element(
    "div",
    { class: "suggestions", role: "group", "aria-label": words().filterExamples },
    ...filterable.values.map((value) =>
      element("button", { type: "button", class: "suggestion", title: value, onclick: () => take(value) }, value),
    ),
  );
}

/** @param {string} text */
const listed = (text) =>
  text
    .split(/[,，、]/)
    .map((each) => each.trim())
    .filter(Boolean);

/**
 * @param {Filterable} filterable
 * @param {string} operator
 * @param {HTMLElement} values
 */
function expressionsOf(filterable, operator, values) {
  const valueOf = (/** @type {string} */ name) => {
    const input = values.querySelector(`input[name=${name}]`);
    return input instanceof HTMLInputElement ? input.value.trim() : "";
  };
  const value = valueOf("value");
  if (!filterable.types.includes("text")) {
    const expressions = numberExpressions(filterable.key, operator, value, valueOf("upper"));
    return value || operator === "between" ? expressions : [];
  }
  const comparesNumbers = /[<>]/.test(operator) || (filterable.types.includes("number") && /=/.test(operator));
  if (comparesNumbers && isNumber(value) && !filterable.values.includes(value)) {
    return numberExpressions(filterable.key, operator, value, "");
  }
  const items = operator.endsWith("in") ? listed(value) : [value].filter(Boolean);
  return items.length ? [textExpression(filterable.key, operator, items)] : [];
}

/** @param {string} text @param {HTMLElement} input */
const field = (text, input) => element("label", { class: "field" }, element("span", {}, text), input);
