// The gallery of test images: filters over a short index; pictures and answers are read from the chunk they stand in.
// Everything a model wrote is set as text, never as HTML.
"use strict";
(() => {
  const PAGE = 50;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const TROUBLES = {
    no_answer: "no letter could be read", truncated: "cut off at the length limit",
    error: "the model failed", off_list: "an answer that is no option",
  };
  const ARMS = { one_step: "One-step", vote: "Vote", two_step: "Two-step" };
  const index = JSON.parse(document.getElementById("index").textContent);
  const images = index.images.map(([id, cls, ...kinds], place) => ({ id, cls, kinds, place }));
  const last = index.models.length - 1;
  const form = document.getElementById("filters");
  const list = document.getElementById("images");
  const status = document.getElementById("found");
  const pagers = [...document.querySelectorAll(".pager")];
  const gallery = document.getElementById("gallery");
  const chunks = new Map();
  let asked = new URLSearchParams();
  let shown = [];

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

  function record(image) {
    const number = Math.floor(image.place / index.chunk);
    if (!chunks.has(number)) chunks.set(number, JSON.parse(document.getElementById(`chunk-${number}`).textContent));
    return chunks.get(number)[image.place % index.chunk];
  }

  const className = (number) => (number === null ? "no class" : index.classes[number].name);

  function verdict(right) {
    return make("b", { class: right ? "right" : "wrong" }, right ? "✓ right" : "✗ wrong");
  }

  function bar(name, votes, draws, { letter = "", truth = false, chosen = false } = {}) {
    const tags = [chosen ? "chosen" : "", truth ? "the truth" : ""].filter(Boolean).join(", ");
    const line = make("span", { class: "line" },
      make("span", {}, letter ? `${letter}. ${name} ` : `${name} `, tags ? make("span", { class: "tags" }, `(${tags})`) : ""),
      make("span", { class: "votes" }, `${votes} of ${draws}`));
    const fill = make("i");
    fill.style.width = `${draws ? (100 * votes) / draws : 0}%`;
    const kind = [truth ? "true" : "", chosen ? "chosen" : ""].filter(Boolean).join(" ");
    return make("li", kind ? { class: kind } : {}, line, make("span", { class: "bar", "aria-hidden": "true" }, fill));
  }

  // Rounded to three places, the ends would read as if there were no doubt at all.
  function probability(sure) {
    return sure > 0.999 ? ">0.999" : sure < 0.001 ? "<0.001" : String(sure);
  }

  function unasked(given) {
    if (!given.options.length) return "the draws named no class";
    return given.votes.length > 1 ? "one class alone holds the share of the votes that options must hold"
      : "the draws named one class only";
  }

  function answer(model, given, cls) {
    const votes = new Map(given.votes);
    const options = given.options.map((number, place) => bar(className(number), votes.get(number) || 0, given.draws, {
      letter: LETTERS[place], truth: number === cls, chosen: LETTERS[place] === given.letter,
    }));
    const others = given.votes.filter(([number]) => !given.options.includes(number))
      .map(([number, count]) => bar(className(number), count, given.draws, { truth: number === cls }));
    const unnamed = given.draws - given.votes.reduce((sum, [, count]) => sum + count, 0);
    const section = make("section", { "aria-label": model },
      make("h4", {}, model, " ", verdict(given.two_step === cls)),
      options.length ? make("ol", { class: "options" }, ...options) : "");
    if (others.length) {
      section.append(make("p", { class: "how soft" }, "Drawn, and no option:"), make("ul", { class: "options" }, ...others));
    }
    if (unnamed) section.append(make("p", { class: "how soft" }, `${unnamed} of ${given.draws} draws named no class.`));
    const arms = make("p", { class: "how" });
    for (const [arm, title] of Object.entries(ARMS)) {
      arms.append(make("span", {}, `${title}: ${className(given[arm])} `, verdict(given[arm] === cls)), make("br"));
    }
    section.append(arms);
    if (given.text === null) {
      section.append(make("p", { class: "how soft" }, `No question was asked: ${unasked(given)}.`));
    } else {
      const sure = given.sure === null ? "" : `, with probability ${probability(given.sure)}`;
      const chose = given.letter === null
        ? `no letter: ${TROUBLES[given.status] || given.status}` : `letter chosen: ${given.letter}${sure}`;
      section.append(make("p", { class: "how" }, `Reasoning; ${chose}`),
        make("pre", { tabindex: "0", role: "region", "aria-label": `${model}: reasoning` }, given.text));
    }
    return section;
  }

  function card(image) {
    const { picture, answers } = record(image);
    const { name, dataset, half } = index.classes[image.cls];
    const link = make("a", { href: `#image=${image.id}` }, "Link to this image");
    const head = make("div", {},
      picture ? make("img", { src: picture, alt: `Test image of ${name}`, decoding: "async" })
        : make("p", { class: "nothing" }, "The picture cannot be opened."),
      make("h3", {}, name), make("p", { class: "soft" }, `${dataset}, ${half} class`), make("p", { class: "soft" }, link));
    const body = make("div", { class: "answers" }, ...answers.map((given, n) => answer(index.models[n], given, image.cls)));
    return make("article", { class: "card example", tabindex: "-1", "aria-label": `Test image of ${name}` }, head, body);
  }

  // Links to the other sections leave the gallery as it is.
  function elsewhere() {
    return location.hash.length > 1 && document.getElementById(location.hash.slice(1)) !== null;
  }

  function readAddress() {
    if (!elsewhere()) asked = new URLSearchParams(location.hash.slice(1));
  }

  function select() {
    if (asked.has("image")) return images.filter((image) => image.id === asked.get("image"));
    const outcome = OUTCOMES[asked.get("outcome")];
    const mistake = index.kinds.indexOf(asked.get("mistake"));
    const words = (asked.get("class") || "").toLowerCase().split(/\s+/).filter(Boolean);
    return images.filter((image) => {
      const { name, dataset, half } = index.classes[image.cls];
      return (!asked.get("dataset") || dataset === asked.get("dataset"))
        && (!asked.get("half") || half === asked.get("half"))
        && (!outcome || outcome(image))
        && (mistake < 0 || image.kinds[last] === mistake)
        && (!asked.get("exact") || name === asked.get("exact"))
        && words.every((word) => name.toLowerCase().includes(word));
    });
  }

  function pages() {
    return Math.max(1, Math.ceil(shown.length / PAGE));
  }

  function page() {
    return Math.min(pages(), Math.max(1, Number.parseInt(asked.get("page") || "1", 10) || 1));
  }

  function showAll() {
    const button = make("button", { type: "button" }, "Show all images");
    button.addEventListener("click", () => go({}, false));
    return button;
  }

  function nothing() {
    const set = [...form.elements].filter((field) => field.name && field.value)
      .map((field) => `${field.labels[0].firstChild.textContent.trim().toLowerCase()} “${field.value}”`);
    const why = asked.has("image") ? `There is no image ${asked.get("image")} in this report; it may be of another run.`
      : `No test image is all of this: ${set.join(", ")}.`;
    return make("div", { class: "nothing" }, make("p", {}, why), showAll());
  }

  function render() {
    for (const field of form.elements) if (field.name) field.value = asked.get(field.name) || "";
    if (asked.get("exact")) form.elements.class.value = asked.get("exact");
    shown = select();
    const now = page();
    const start = (now - 1) * PAGE;
    list.replaceChildren(...(shown.length ? shown.slice(start, start + PAGE).map(card) : [nothing()]));
    const count = shown.length === 1 ? "1 image" : `${shown.length.toLocaleString("en")} images`;
    const which = asked.get("exact") ? " of this very class" : "";
    status.textContent = asked.has("image") || !shown.length ? count : `${count}${which}, page ${now} of ${pages()}`;
    if (asked.has("image") && shown.length) status.append(" ", showAll());
    for (const pager of pagers) {
      pager.hidden = pages() < 2;
      pager.querySelector("[data-step='-1']").disabled = now === 1;
      pager.querySelector("[data-step='1']").disabled = now === pages();
    }
  }

  function go(changes, keep = true) {
    if (!keep) asked = new URLSearchParams();
    asked.delete("image");
    for (const [name, value] of Object.entries(changes)) {
      if (value) asked.set(name, value); else asked.delete(name);
    }
    history.replaceState(null, "", `#${asked}`);
    render();
  }

  function turn(step) {
    const wanted = page() + step;
    if (wanted < 1 || wanted > pages()) return;
    go({ page: wanted > 1 ? String(wanted) : "" });
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

  // A class that a link has named is exact until the search field says something else.
  form.addEventListener("input", ({ target }) => {
    const named = target.name === "class" || target.name === "dataset" ? { exact: "", class: form.elements.class.value } : {};
    go({ ...named, [target.name]: target.value, page: "" });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); go({}, false); });
  for (const button of document.querySelectorAll(".pager button")) {
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  }
  function follow() {
    readAddress();
    if (elsewhere()) return;
    render();
    if (asked.has("image") || asked.has("exact")) gallery.scrollIntoView();
  }
  window.addEventListener("hashchange", follow);
  // A link to where one is already changes no address, and yet the reader wants to be there.
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
  // Where the chart of classes is too broad to be shown, the table stands in for it.
  if (window.matchMedia("(max-width: 700px)").matches) document.getElementById("class-table").open = true;
  readAddress();
  render();
  if (asked.has("image") || asked.has("exact")) gallery.scrollIntoView();
})();
