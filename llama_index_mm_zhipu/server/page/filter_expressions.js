/** Filter expressions: written for the server, and read back for people. */

/** @typedef {"=" | "!=" | "~" | "in" | "not in" | ">" | ">=" | "<" | "<="} Operator */

/** Operators on values that are texts, and on those that are numbers. */
export const TEXT_OPERATORS = /** @type {const} */ (["=", "!=", "~", "in", "not in"]);
export const NUMBER_OPERATORS = /** @type {const} */ (["between", "=", "!=", ">", ">=", "<", "<="]);

const QUOTES = [
  ['"', '"'],
  ["'", "'"],
  ["“", "”"],
  ["‘", "’"],
];
/** Operators on values of which some are texts and some are numbers. */
export const MIXED_OPERATORS = /** @type {const} */ ([...TEXT_OPERATORS, ">", ">=", "<", "<="]);

const NEEDS_QUOTES = /[=＝<＜>＞!！~～≠≤≥,，、"'“”‘’()（）[\]]|^\s|\s$|\s(not\s+)?in\s/i;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)$/;
const BOOLEAN = /^(true|false)$/i;
const QUOTED = `"[^"]*"|'[^']*'|“[^”]*”|‘[^’]*’`;
const EXPRESSION = new RegExp(
  `^\\s*(?<key>${QUOTED}|.+?)\\s*(?<operator>>=|<=|!=|<>|==|=|≥|≤|≠|>|<|~|(?<=\\s)not\\s+in(?=\\s)|(?<=\\s)in(?=\\s))\\s*(?<value>.+)$`,
  "is",
);
const SAME = /** @type {Record<string, string>} */ ({ "==": "=", "<>": "!=", "≠": "!=", "≥": ">=", "≤": "<=" });

/**
 * Returns whether a value is a number as filters take them.
 *
 * @param {string} value
 */
export const isNumber = (value) => NUMBER.test(value);

/**
 * Returns an expression that compares texts.
 *
 * @param {string} key
 * @param {string} operator One of `TEXT_OPERATORS`.
 * @param {string[]} values Several for `in` and `not in`.
 */
export const textExpression = (key, operator, values) =>
  join(
    key,
    operator,
    values.map((value) => (operator === "~" ? quotedIf(NEEDS_QUOTES, value) : asText(value))).join(", "),
  );

/**
 * Returns the expressions that compare numbers; two for a range.
 *
 * @param {string} key
 * @param {string} operator One of `NUMBER_OPERATORS`.
 * @param {string} value
 * @param {string} upper Upper end of a range; either end may be empty.
 */
export function numberExpressions(key, operator, value, upper) {
  if (operator !== "between") return [join(key, operator, value)];
  const ends = [
    [">=", value],
    ["<=", upper],
  ];
  return ends.filter(([, end]) => end).map(([sign, end]) => join(key, sign, end));
}

/**
 * Returns an expression in the words of the page, such as `价格 不小于 100`.
 *
 * @param {string} expression
 * @param {Record<string, string>} operators Names of the operators.
 * @param {Record<string, string>} keys Names of the keys that have one.
 */
export function readable(expression, operators, keys) {
  const parts = EXPRESSION.exec(expression)?.groups;
  if (!parts) return expression;
  const sign = parts.operator.toLowerCase().replace(/\s+/g, " ");
  const operator = SAME[sign] ?? sign;
  const key = unquoted(parts.key);
  return `${keys[key] ?? key} ${operators[operator] ?? operator} ${unquoted(parts.value)}`;
}

/**
 * @param {string} key
 * @param {string} operator
 * @param {string} value
 */
function join(key, operator, value) {
  const space = /[a-z]/.test(operator) ? " " : "";
  return `${quotedIf(NEEDS_QUOTES, key)}${space}${operator}${space}${value}`;
}

/** @param {string} value @returns {string} Quoted if the server could take it for something else. */
const asText = (value) => (isNumber(value) || BOOLEAN.test(value) ? quoted(value) : quotedIf(NEEDS_QUOTES, value));

/** @param {RegExp} pattern @param {string} text */
const quotedIf = (pattern, text) => (pattern.test(text) ? quoted(text) : text);

/** @param {string} text */
function quoted(text) {
  const [opening, closing] = QUOTES.find((pair) => !pair.some((mark) => text.includes(mark))) ?? QUOTES[0];
  return opening + text + closing;
}

/** @param {string} text */
function unquoted(text) {
  const whole = new RegExp(`^(${QUOTED})$`).test(text);
  return whole ? text.slice(1, -1) : text.replace(new RegExp(QUOTED, "g"), (part) => part.slice(1, -1));
}
