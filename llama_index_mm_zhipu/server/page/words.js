/** Every text of the page, in Chinese and English. */

/** @typedef {"zh" | "en"} Language */
/** @typedef {keyof typeof zh} Word */

/** @param {number} count @param {string} one @param {string} [many] */
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
/** @param {number} count */
const grouped = (count) => count.toLocaleString("en");

const zh = {
  // Frame
  skip: "跳到主要内容",
  views: "视图",
  search: "检索",
  ask: "提问",
  add: "添加",
  apiTitle: "HTTP 接口说明",
  otherLanguage: "EN",
  switchLanguage: "切换到 English",
  theme: { auto: "主题：跟随系统", light: "主题：浅色", dark: "主题：深色" },
  keys: "键盘快捷键",
  close: "关闭",
  retry: "重试",
  remove: "移除",
  images: (/** @type {number} */ count) => `${grouped(count)} 张图片`,
  texts: (/** @type {number} */ count) => `${grouped(count)} 段文字`,

  // Search
  searchLabel: "检索词",
  searchPlaceholder: "描述想找的图片，或拖入、粘贴一张图片",
  chooseImage: "选择图片",
  cutoff: "相似度下限",
  cutoffOff: "不限",
  number: "数量",
  results: "检索结果",
  searching: "正在检索…",
  found: (/** @type {number} */ count, /** @type {string} */ seconds) => `找到 ${count} 个结果，用时 ${seconds} 秒`,
  foundAbove: (/** @type {number} */ count, /** @type {string} */ cutoff, /** @type {string} */ seconds) =>
    `${count} 个结果不低于 ${cutoff}，用时 ${seconds} 秒`,
  nothingFound: "没有找到结果",
  loosenCutoff: "相似度下限可能太高。",
  loosenFilters: "筛选条件可能太严。",
  loosenWords: "换一种说法试试，例如写出颜色、物体或场景。",
  cutoffReset: "取消下限",
  filtersReset: "清除筛选",
  filtersNeedWords: "筛选条件要配合检索词或图片使用。",
  firstTitle: "用一句话或一张图片查找图片",
  firstHints: [
    ["search", "写一句话", "描述画面里的东西，例如“红色的连衣裙”“仪表盘上的警告灯”，然后按回车。"],
    ["image", "给一张图片", "拖到页面任意位置、粘贴，或点输入框里的图片按钮，找出相似的图片；也可以同时写字。"],
    ["ask", "针对图片提问", "在“提问”里用自然语言问，回答会标出所依据的图片。"],
  ],

  // Cards
  similarity: (/** @type {string} */ score) => `相似度 ${score}`,
  score: (/** @type {string} */ score) => `得分 ${score}`,
  page: (/** @type {string} */ page) => (/^\d+$/.test(page) ? `第 ${page} 页` : page),
  like: "找相似",
  likeTitle: "查找与这张图片相似的图片",
  about: "问这张图",
  aboutTitle: "针对这张图片提问",
  likeChip: "与此图相似",
  imageChip: "以图检索",
  aboutChip: "问题所指的图片",
  textCard: "文字",
  noCaption: "无说明",
  imageMissing: "图片无法显示",
  image: "图片",

  // Filters
  addFilter: "筛选",
  filterKey: "字段",
  filterOperator: "条件",
  filterValue: "值",
  filterFrom: "最小值",
  filterTo: "最大值",
  filterApply: "应用",
  filterCancel: "取消",
  filterList: "用逗号分隔多个值",
  removeFilter: (/** @type {string} */ filter) => `移除筛选 ${filter}`,
  filterExamples: "已有的值",
  operators: {
    "=": "等于", "!=": "不等于", "~": "包含", in: "属于", "not in": "不属于",
    ">": "大于", ">=": "不小于", "<": "小于", "<=": "不大于", between: "介于",
  },
  separator: "、",
  keyNames: /** @type {Record<string, string>} */ ({
    file_name: "文件名", page_label: "页码", time: "时间", time_seconds: "时间（秒）",
  }),

  // Ask
  questionLabel: "问题",
  questionPlaceholder: "就图片库里的内容提问",
  askFirstTitle: "就图片库里的内容提问",
  askHints: [
    ["ask", "直接提问", "先检索相关的图片，再由模型看图回答，例如“哪一页讲了更换轮胎的步骤？”"],
    ["image", "带一张图片", "拖入、粘贴或选择一张图片，问“这是什么？有没有同款？”"],
    ["similar", "核对来源", "点回答里的 图1，就能看到它依据的图片；还可以接着追问。"],
  ],
  mock: "回答来自本地模拟服务，不是模型。设置环境变量 ZHIPUAI_API_KEY 后重新启动，即可使用真正的模型。",
  newConversation: "新对话",
  send: "发送",
  stop: "停止",
  findingSources: "正在检索相关图片…",
  answering: "正在回答…",
  answerStopped: "已停止。",
  answerBroken: "服务器在回答中途断开，以上是已收到的部分。",
  chatGone: "之前的对话已经失效（服务可能重新启动过）。再次提问会开始新的对话。",
  askAgain: "重新提问",
  copy: "复制回答",
  copied: "已复制",
  copyFailed: "浏览器不允许复制，请手动选取文字。",
  cited: (/** @type {number} */ count) => `引用的来源（${count}）`,
  otherSources: (/** @type {number} */ count) => `其他来源（${count}）`,
  allSources: (/** @type {number} */ count) => `所有来源（${count}）`,
  noSources: "没有检索到相关的图片或文字。",
  unknownCitations: (/** @type {string} */ names) => `回答提到了 ${names}，但来源里没有这些图片，请留意。`,
  skippedSources: (/** @type {number} */ count) => `${count} 张图片没有发给模型`,
  showSource: (/** @type {string} */ name) => `${name}，跳到来源`,
  you: "你的问题",
  answer: "回答",

  // Lightbox
  imageDetails: "图片详情",
  previous: "上一张",
  next: "下一张",
  position: (/** @type {number} */ index, /** @type {number} */ count) => `${index} / ${count}`,
  source: "来源",
  pageLabel: "页",
  time: "时间",
  scoreLabel: "得分",
  metadata: "属性",
  textInImage: "图中文字",
  showAllBoxes: "标出所有文字",
  matches: (/** @type {number} */ count) => `${count} 行与检索词相符`,
  loadingDetails: "正在读取…",
  nodeId: "编号",

  // Add
  addHeading: "添加图片到索引",
  dropHere: "把图片、文件或文件夹拖到这里",
  knownTypes: (/** @type {string} */ suffixes, /** @type {string} */ image, /** @type {string} */ file) =>
    `支持 ${suffixes} 等格式；图片不超过 ${image}，其他文件不超过 ${file}`,
  chooseFiles: "选择文件",
  chooseFolder: "选择文件夹",
  addHint: "没有变化的图片不会重复处理：刷新页面或中断之后，把同一个文件夹再拖进来，很快就能接着完成。",
  addEmpty: "图片库还是空的",
  addEmptyHint: "把图片、PDF、幻灯片或整个文件夹拖到页面上，处理完就可以检索和提问。",
  addEmptyClosed: "服务器不允许从页面添加图片，请用命令 mmzhipu index 建立索引。",
  addClosed: "服务器不允许从页面添加图片。",
  readingFolder: (/** @type {number} */ count) => `正在读取文件夹，已找到 ${grouped(count)} 个文件…`,
  filesDone: (/** @type {number} */ done, /** @type {number} */ total) =>
    `${grouped(done)} / ${grouped(total)} 个文件`,
  inBatch: (/** @type {number} */ done, /** @type {number | null} */ total) =>
    total === null ? `正在处理，本批已完成 ${grouped(done)} 张` : `正在处理，本批 ${grouped(done)} / ${grouped(total)} 张`,
  sending: (/** @type {string} */ names) => `正在发送 ${names}`,
  andMore: (/** @type {string} */ name, /** @type {number} */ count) => `${name} 等 ${count} 个文件`,
  uploading: "正在添加…",
  uploadPaused: "已暂停",
  uploadStopped: "已停止，做完的部分已经保存。",
  uploadDone: "添加完成",
  resume: "继续",
  newImages: (/** @type {number} */ count) => `新增 ${grouped(count)} 张图片`,
  keptImages: (/** @type {number} */ count) => `${grouped(count)} 张没有变化`,
  skippedFiles: (/** @type {number} */ count) => `跳过 ${grouped(count)} 项`,
  skippedMore: (/** @type {number} */ count) => `还有 ${grouped(count)} 项没有列出`,
  unknownType: "不支持的文件类型",
  tooLarge: (/** @type {string} */ size) => `超过单个文件的上限 ${size}`,
  emptyFile: "空文件",
  unreadableFile: "浏览器无法读取这个文件",
  searchNow: "去检索",
  progress: "进度",
  noFiles: "没有可以添加的文件。",
  uploadBroken: "连接在处理中途断开",

  // Images that are dropped or pasted
  dropToSearch: "松开，以图检索",
  dropToAsk: "松开，针对这张图片提问",
  dropToAdd: "松开，添加到图片库",
  imageTooLarge: (/** @type {string} */ size, /** @type {string} */ limit) => `图片 ${size}，超过上限 ${limit}`,

  // States and errors
  loadingModel: "正在加载模型，加载完成后就可以检索。",
  searchWaits: "模型加载完成后自动检索。",
  loadFailed: "模型或索引加载失败",
  unknownState: "正在连接服务器…",
  errors: {
    offline: "服务器没有响应，mmzhipu serve 还在运行吗？",
    unauthorized: "没有访问权限：请打开 mmzhipu serve 启动时给出的完整网址，其中含有令牌。",
    forbidden: "服务器拒绝了这个请求",
    bad_request: "请求无法执行",
    not_found: "没有找到",
    gone: "之前的对话已经失效",
    too_large: "内容太大",
    unsupported: "不支持的文件",
    loading: "模型还在加载，请稍候",
    conflict: "服务器正忙于另一项操作，请稍后重试",
    no_key: "没有设置 API key：请设置环境变量 ZHIPUAI_API_KEY 后重新启动 mmzhipu serve",
    model: "模型没有给出回答",
    store: "索引读写出错",
    unexpected: "服务器出错",
  },

  // Keys
  keyList: [
    ["/", "转到输入框"],
    ["Enter", "检索、发送；在卡片上打开大图"],
    ["Shift + Enter", "提问时换行"],
    ["← → ↑ ↓", "在卡片之间移动；大图中切换上一张、下一张"],
    ["Esc", "关闭大图和对话框"],
    ["?", "显示快捷键"],
  ],
};

/** @type {typeof zh} */
const en = {
  skip: "Skip to the main content",
  views: "Views",
  search: "Search",
  ask: "Ask",
  add: "Add",
  apiTitle: "The HTTP API",
  otherLanguage: "中",
  switchLanguage: "Switch to 中文",
  theme: { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" },
  keys: "Keyboard shortcuts",
  close: "Close",
  retry: "Try again",
  remove: "Remove",
  images: (count) => plural(count, "image"),
  texts: (count) => plural(count, "text"),

  searchLabel: "Words to search for",
  searchPlaceholder: "Describe an image, or drop or paste one",
  chooseImage: "Choose an image",
  cutoff: "Min. similarity",
  cutoffOff: "off",
  number: "Results",
  results: "Results",
  searching: "Searching…",
  found: (count, seconds) => `${plural(count, "result")} in ${seconds} s`,
  foundAbove: (count, cutoff, seconds) => `${plural(count, "result")} at ${cutoff} or above, in ${seconds} s`,
  nothingFound: "Nothing found",
  loosenCutoff: "The minimum similarity may be too high.",
  loosenFilters: "The filters may be too strict.",
  loosenWords: "Try other words, such as colours, objects or the scene.",
  cutoffReset: "Remove the minimum",
  filtersReset: "Clear filters",
  filtersNeedWords: "Filters need words or an image to search for.",
  firstTitle: "Find images by words or by an image",
  firstHints: [
    ["search", "Describe it", "Write what the image shows, such as “red dress” or “warning light on the dashboard”, and press Enter."],
    ["image", "Show an image", "Drop one anywhere on the page, paste one, or use the image button to find similar ones. Words can be added."],
    ["ask", "Ask a question", "Under Ask, put a question in plain language. The answer names the images that it is based on."],
  ],

  similarity: (score) => `similarity ${score}`,
  score: (score) => `score ${score}`,
  page: (page) => (/^\d+$/.test(page) ? `page ${page}` : page),
  like: "Similar",
  likeTitle: "Find images like this one",
  about: "Ask",
  aboutTitle: "Ask about this image",
  likeChip: "Like this image",
  imageChip: "By this image",
  aboutChip: "The question is about this image",
  textCard: "Text",
  noCaption: "No caption",
  imageMissing: "The image cannot be shown",
  image: "Image",

  addFilter: "Filter",
  filterKey: "Field",
  filterOperator: "Condition",
  filterValue: "Value",
  filterFrom: "Minimum",
  filterTo: "Maximum",
  filterApply: "Apply",
  filterCancel: "Cancel",
  filterList: "Separate values with commas",
  removeFilter: (filter) => `Remove the filter ${filter}`,
  filterExamples: "Values in the index",
  operators: {
    "=": "is", "!=": "is not", "~": "contains", in: "is one of", "not in": "is none of",
    ">": "above", ">=": "at least", "<": "below", "<=": "at most", between: "between",
  },
  separator: ", ",
  keyNames: { file_name: "File name", page_label: "Page", time: "Time", time_seconds: "Time (seconds)" },

  questionLabel: "Question",
  questionPlaceholder: "Ask about the images",
  askFirstTitle: "Ask about the images",
  askHints: [
    ["ask", "Just ask", "Relevant images are found first, and the model answers from them: “Which page shows how to change a tyre?”"],
    ["image", "Add an image", "Drop, paste or choose one and ask “What is this? Do we have the same one?”"],
    ["similar", "Check the sources", "Click a citation in the answer to see the image behind it, and go on with further questions."],
  ],
  mock: "Answers come from the local mock service, not from a model. Set ZHIPUAI_API_KEY and start again to use a real one.",
  newConversation: "New conversation",
  send: "Send",
  stop: "Stop",
  findingSources: "Looking for relevant images…",
  answering: "Answering…",
  answerStopped: "Stopped.",
  answerBroken: "The server stopped in mid-answer. This is what arrived.",
  chatGone: "The server does not know the conversation any more; it may have been restarted. Ask again to start a new one.",
  askAgain: "Ask again",
  copy: "Copy the answer",
  copied: "Copied",
  copyFailed: "The browser does not allow copying; please select the text.",
  cited: (count) => `Cited sources (${count})`,
  otherSources: (count) => `Other sources (${count})`,
  allSources: (count) => `All sources (${count})`,
  noSources: "No relevant images or texts were found.",
  unknownCitations: (names) => `The answer cites ${names}, and no source has that name.`,
  skippedSources: (count) => `${plural(count, "image was", "images were")} not sent to the model`,
  showSource: (name) => `${name}, go to the source`,
  you: "Your question",
  answer: "Answer",

  imageDetails: "Image details",
  previous: "Previous image",
  next: "Next image",
  position: (index, count) => `${index} / ${count}`,
  source: "Source",
  pageLabel: "Page",
  time: "Time",
  scoreLabel: "Score",
  metadata: "Metadata",
  textInImage: "Text in the image",
  showAllBoxes: "Mark all lines",
  matches: (count) => `${plural(count, "line matches", "lines match")} the words`,
  loadingDetails: "Loading…",
  nodeId: "Id",

  addHeading: "Add images to the index",
  dropHere: "Drop images, files or a folder here",
  knownTypes: (suffixes, image, file) => `${suffixes} and others; images up to ${image}, other files up to ${file}`,
  chooseFiles: "Choose files",
  chooseFolder: "Choose a folder",
  addHint: "Images that have not changed are not processed again: after a reload or an interruption, drop the same folder again and it goes on quickly.",
  addEmpty: "There are no images yet",
  addEmptyHint: "Drop images, PDF files, slides or a whole folder on this page. Then you can search and ask.",
  addEmptyClosed: "This server does not accept images from the page. Build the index with the command mmzhipu index.",
  addClosed: "This server does not accept images from the page.",
  readingFolder: (count) => `Reading the folder, ${plural(count, "file")} so far…`,
  filesDone: (done, total) => `${grouped(done)} of ${plural(total, "file")}`,
  inBatch: (done, total) =>
    total === null ? `Processing, ${plural(done, "image")} of this batch done` : `Processing, ${grouped(done)} of ${plural(total, "image")} in this batch`,
  sending: (names) => `Sending ${names}`,
  andMore: (name, count) => `${name} and ${plural(count - 1, "other file")}`,
  uploading: "Adding…",
  uploadPaused: "Paused",
  uploadStopped: "Stopped. What was done is stored.",
  uploadDone: "Done",
  resume: "Resume",
  newImages: (count) => plural(count, "new image"),
  keptImages: (count) => `${grouped(count)} unchanged`,
  skippedFiles: (count) => `${grouped(count)} skipped`,
  skippedMore: (count) => `${grouped(count)} more are not listed`,
  unknownType: "This type of file is not supported",
  tooLarge: (size) => `Larger than the limit of ${size} for a file`,
  emptyFile: "The file is empty",
  unreadableFile: "The browser cannot read this file",
  searchNow: "Search",
  progress: "Progress",
  noFiles: "There are no files to add.",
  uploadBroken: "The connection ended before the batch was done",

  dropToSearch: "Drop to search by this image",
  dropToAsk: "Drop to ask about this image",
  dropToAdd: "Drop to add to the index",
  imageTooLarge: (size, limit) => `The image has ${size}; the limit is ${limit}`,

  loadingModel: "The model is loading. You can search as soon as it is ready.",
  searchWaits: "The search starts when the model is ready.",
  loadFailed: "The model or the index could not be loaded",
  unknownState: "Connecting to the server…",
  errors: {
    offline: "The server does not answer; is mmzhipu serve still running?",
    unauthorized: "No access: open the address that mmzhipu serve printed; it contains the token.",
    forbidden: "The server refused the request",
    bad_request: "The request cannot be met",
    not_found: "Not found",
    gone: "The conversation has ended",
    too_large: "Too large",
    unsupported: "This file is not supported",
    loading: "The model is still loading; please wait",
    conflict: "The server is busy with something else; try again later",
    no_key: "There is no API key: set ZHIPUAI_API_KEY and start mmzhipu serve again",
    model: "The model did not answer",
    store: "The index could not be read or written",
    unexpected: "The server failed",
  },

  keyList: [
    ["/", "Go to the input"],
    ["Enter", "Search, send; open the image of a card"],
    ["Shift + Enter", "New line in a question"],
    ["← → ↑ ↓", "Move among cards; previous and next image"],
    ["Esc", "Close an image or dialog"],
    ["?", "Show this list"],
  ],
};

const TEXTS = { zh, en };

/** @type {Language} */
let current = "zh";

/** @returns {Language} The language of the page. */
export const language = () => current;

/**
 * Sets the language of the page, and the texts of its static parts.
 *
 * @param {Language} chosen
 */
export function setLanguage(chosen) {
  current = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  fill("text", (node, text) => (node.textContent = text));
  fill("label", (node, text) => {
    node.setAttribute("aria-label", text);
    if (node instanceof HTMLButtonElement) node.title = text;
  });
  fill("title", (node, text) => (node.title = text));
  fill("placeholder", (node, text) => node.setAttribute("placeholder", text));
}

/**
 * The texts of the current language; functions take the values that they show.
 *
 * @returns {typeof zh}
 */
export const words = () => TEXTS[current];

/**
 * Returns the name by which answers cite an image. Answers have the language of the question.
 *
 * @param {number} number
 * @param {string} question
 */
export const imageName = (number, question) => (/[\u4e00-\u9fff]/.test(question) ? `图${number}` : `Picture ${number}`);

/**
 * @param {"text" | "label" | "title" | "placeholder"} use
 * @param {(node: HTMLElement, text: string) => void} apply
 */
function fill(use, apply) {
  for (const node of document.querySelectorAll(`[data-${use}]`)) {
    if (!(node instanceof HTMLElement)) continue;
    apply(node, String(words()[/** @type {Word} */ (node.dataset[use])]));
  }
}
