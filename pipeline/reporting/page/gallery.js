// The gallery of test images: filters over a short index; pictures and answers are parsed chunk by chunk, when needed.
// Everything that a model wrote is inserted as text, never as HTML.
"use strict";
(() => {
  const PAGE = 50;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const FAILURES = {
    no_answer: "the answer has no letter", truncated: "cut off at the length limit",
    error: "the model returned an error", off_list: "the answer is not an option",
  };
  const index = JSON.parse(document.getElementById("index").textContent);
  const images = index.images.map(([id, cls, ...kinds], place) => ({ id, cls, kinds, place }));
  const last = index.models.length - 1;
  const form = document.getElementById("filters");
  const list = document.getElementById("images");
  const status = document.getElementById("count");
  const pagers = [...document.querySelectorAll(".pager")];
  const gallery = document.getElementById("gallery");
  const chunks = new Map();
  let query = new URLSearchParams();
  let matches = [];

  const OUTCOMES = {
    right: (image) => image.kinds[last] === 0,
    wrong: (image) => image.kinds[last] !== 0,
    gained: (image) => image.kinds[0] !== 0 && image.kinds[last] === 0,
    lost: (image) => image.kinds[0] === 0 && image.kinds[last] !== 0,
  };

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null && child !== ""));
    return element;
  }

  function load(image) {
    const number = Math.floor(image.place / index.chunk);
    if (!chunks.has(number)) chunks.set(number, JSON.parse(document.getElementById(`chunk-${number}`).textContent));
    return chunks.get(number)[image.place % index.chunk];
  }

  const className = (number) => (number === null ? "no class" : index.classes[number].name);

  function verdict(right) {
    return make("b", { class: right ? "right" : "wrong" }, right ? "✓ right" : "✗ wrong");
  }

  function bar(name, votes, draws, { letter = "", truth = false, chosen = false } = {}) {
    const tags = [chosen ? "chosen" : "", truth ? "true class" : ""].filter(Boolean).join(", ");
    const line = make("span", { class: "line" },
      make("span", {}, letter ? `${letter}. ${name} ` : `${name} `, tags ? make("span", { class: "tags" }, `(${tags})`) : ""),
      make("span", { class: "votes" }, `${votes} of ${draws}`));
    const fill = make("i");
    fill.style.width = `${draws ? (100 * votes) / draws : 0}%`;
    const kind = [truth ? "true" : "", chosen ? "chosen" : ""].filter(Boolean).join(" ");
    return make("li", kind ? { class: kind } : {}, line, make("span", { class: "bar", "aria-hidden": "true" }, fill));
  }

  // Rounded to three places, probabilities near the ends would read as 0 and 1.
  function probability(value) {
    return value > 0.999 ? ">0.999" : value < 0.001 ? "<0.001" : String(value);
  }

  function reasonForNoQuestion(record) {
    if (!record.options.length) return "the draws named no class";
    return record.votes.length > 1 ? "one class alone has the share of the votes that the options must cover"
      : "the draws named only one class";
  }

  function answer(model, record, cls) {
    const votes = new Map(record.votes);
    const options = record.options.map((number, place) => bar(className(number), votes.get(number) || 0, record.draws, {
      letter: LETTERS[place], truth: number === cls, chosen: LETTERS[place] === record.letter,
    }));
    const others = record.votes.filter(([number]) => !record.options.includes(number))
      .map(([number, count]) => bar(className(number), count, record.draws, { truth: number === cls }));
    const unnamed = record.draws - record.votes.reduce((sum, [, count]) => sum + count, 0);
    const section = make("section", { "aria-label": model },
      make("h4", {}, model, " ", verdict(record.two_step === cls)),
      options.length ? make("ol", { class: "options" }, ...options) : "");
    if (others.length) {
      section.append(make("p", { class: "how soft" }, "Drawn, but not an option:"), make("ul", { class: "options" }, ...others));
    }
    if (unnamed) section.append(make("p", { class: "how soft" }, `${unnamed} of ${record.draws} draws named no class.`));
    const lines = make("p", { class: "how" });
    for (const [way, title] of index.ways) {
      lines.append(make("span", {}, `${title}: ${className(record[way])} `, verdict(record[way] === cls)), make("br"));
    }
    section.append(lines);
    if (record.text === null) {
      section.append(make("p", { class: "how soft" }, `No second question: ${reasonForNoQuestion(record)}.`));
    } else {
      const suffix = record.probability === null ? "" : `, with probability ${probability(record.probability)}`;
      const choice = record.letter === null
        ? `no letter: ${FAILURES[record.status] || record.status}` : `letter chosen: ${record.letter}${suffix}`;
      section.append(make("p", { class: "how" }, `Reasoning; ${choice}`),
        make("pre", { tabindex: "0", role: "region", "aria-label": `${model}: reasoning` }, record.text));
    }
    return section;
  }

  function card(image) {
    const { picture, answers } = load(image);
    const { name, dataset, subset } = index.classes[image.cls];
    const link = make("a", { href: `#image=${image.id}` }, "Link to this image");
    const head = make("div", {},
      picture ? make("img", { src: picture, alt: `Test image of ${name}`, decoding: "async" })
        : make("p", { class: "nothing" }, "The picture cannot be opened."),
      make("h3", {}, name), make("p", { class: "soft" }, `${dataset}, ${subset} class`), make("p", { class: "soft" }, link));
    const body = make("div", { class: "answers" }, ...answers.map((one, n) => answer(index.models[n], one, image.cls)));
    return make("article", { class: "card example", tabindex: "-1", "aria-label": `Test image of ${name}` }, head, body);
  }

  // Links to other sections do not change the filters.
  function isSection() {
    return location.hash.length > 1 && document.getElementById(location.hash.slice(1)) !== null;
  }

  function readAddress() {
    if (!isSection()) query = new URLSearchParams(location.hash.slice(1));
  }

  function select() {
    if (query.has("image")) return images.filter((image) => image.id === query.get("image"));
    const outcome = OUTCOMES[query.get("outcome")];
    const mistake = index.kinds.indexOf(query.get("mistake"));
    const words = (query.get("class") || "").toLowerCase().split(/\s+/).filter(Boolean);
    return images.filter((image) => {
      const { name, dataset, subset } = index.classes[image.cls];
      return (!query.get("dataset") || dataset === query.get("dataset"))
        && (!query.get("subset") || subset === query.get("subset"))
        && (!outcome || outcome(image))
        && (mistake < 0 || image.kinds[last] === mistake)
        && (!query.get("exact") || name === query.get("exact"))
        && words.every((word) => name.toLowerCase().includes(word));
    });
  }

  function pages() {
    return Math.max(1, Math.ceil(matches.length / PAGE));
  }

  function page() {
    return Math.min(pages(), Math.max(1, Number.parseInt(query.get("page") || "1", 10) || 1));
  }

  function showAll() {
    const button = make("button", { type: "button" }, "Show all images");
    button.addEventListener("click", () => go({}, false));
    return button;
  }

  function nothing() {
    const set = [...form.elements].filter((field) => field.name && field.value)
      .map((field) => `${field.labels[0].firstChild.textContent.trim().toLowerCase()} “${field.value}”`);
    const reason = query.has("image") ? `There is no image ${query.get("image")} in this report; it may belong to another run.`
      : `No test image matches these filters: ${set.join(", ")}.`;
    return make("div", { class: "nothing" }, make("p", {}, reason), showAll());
  }

  function render() {
    for (const field of form.elements) if (field.name) field.value = query.get(field.name) || "";
    if (query.get("exact")) form.elements.class.value = query.get("exact");
    matches = select();
    const now = page();
    const start = (now - 1) * PAGE;
    list.replaceChildren(...(matches.length ? matches.slice(start, start + PAGE).map(card) : [nothing()]));
    const count = matches.length === 1 ? "1 image" : `${matches.length.toLocaleString("en")} images`;
    const which = query.get("exact") ? " of exactly this class" : "";
    status.textContent = query.has("image") || !matches.length ? count : `${count}${which}, page ${now} of ${pages()}`;
    if (query.has("image") && matches.length) status.append(" ", showAll());
    for (const pager of pagers) {
      pager.hidden = pages() < 2;
      pager.querySelector("[data-step='-1']").disabled = now === 1;
      pager.querySelector("[data-step='1']").disabled = now === pages();
    }
  }

  function go(changes, keep = true) {
    if (!keep) query = new URLSearchParams();
    query.delete("image");
    for (const [name, value] of Object.entries(changes)) {
      if (value) query.set(name, value); else query.delete(name);
    }
    history.replaceState(null, "", `#${query}`);
    render();
  }

  function turn(step) {
    const target = page() + step;
    if (target < 1 || target > pages()) return;
    go({ page: target > 1 ? String(target) : "" });
    gallery.scrollIntoView();
  }

  function inView() {
    const { top, bottom } = gallery.getBoundingClientRect();
    return top < window.innerHeight / 2 && bottom > 0;
  }

  function move(step) {
    const cards = [...list.children];
    const here = cards.findIndex((one) => one.contains(document.activeElement));
    const next = cards[Math.min(cards.length - 1, Math.max(0, here + step))];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
  }

  // A link to a class matches its exact name, until the search field or the data set is changed.
  form.addEventListener("input", ({ target }) => {
    const search = target.name === "class" || target.name === "dataset" ? { exact: "", class: form.elements.class.value } : {};
    go({ ...search, [target.name]: target.value, page: "" });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); go({}, false); });
  for (const button of document.querySelectorAll(".pager button")) {
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  }
  function follow() {
    readAddress();
    if (isSection()) return;
    render();
    if (query.has("image") || query.has("exact")) gallery.scrollIntoView();
  }
  window.addEventListener("hashchange", follow);
  // A link to the present address fires no hashchange, but must still scroll.
  document.addEventListener("click", (event) => {
    if (event.target.closest("a[href^='#']")?.hash === location.hash) follow();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const actions = {
      "/": () => form.elements.class.focus(), j: () => move(1), k: () => move(-1), Escape: () => go({}, false),
      ...(inView() ? { ArrowLeft: () => turn(-1), ArrowRight: () => turn(1) } : {}),
    };
    const scrolls = event.target.scrollWidth > event.target.clientWidth && event.target !== document.body;
    if (!(event.key in actions) || (event.key.startsWith("Arrow") && scrolls)) return;
    event.preventDefault();
    actions[event.key]();
  });
  // On narrow screens the table of classes replaces the chart.
  if (window.matchMedia("(max-width: 700px)").matches) document.getElementById("class-table").open = true;
  readAddress();
  render();
  if (query.has("image") || query.has("exact")) gallery.scrollIntoView();
})();
