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
  const pager = document.getElementById("pager");
  const chunks = new Map();
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
      const why = given.options.length ? "the draws named one class only" : "the draws named no class";
      section.append(make("p", { class: "how soft" }, `No question was asked: ${why}.`));
    } else {
      const sure = given.sure === null ? "" : `, with probability ${given.sure}`;
      const chose = given.letter === null
        ? `no letter: ${TROUBLES[given.status] || given.status}` : `letter chosen: ${given.letter}${sure}`;
      section.append(make("p", { class: "how" }, `Reasoning; ${chose}`),
        make("pre", { tabindex: "0", role: "region", "aria-label": `Reasoning of the ${model.toLowerCase()}` }, given.text));
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

  function state() {
    return new URLSearchParams(location.hash.slice(1));
  }

  function select(asked) {
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
        && words.every((word) => name.toLowerCase().includes(word));
    });
  }

  function pages() {
    return Math.max(1, Math.ceil(shown.length / PAGE));
  }

  function page() {
    return Math.min(pages(), Math.max(1, Number.parseInt(state().get("page") || "1", 10) || 1));
  }

  function render() {
    const asked = state();
    for (const field of form.elements) if (field.name) field.value = asked.get(field.name) || "";
    shown = select(asked);
    const now = page();
    const start = (now - 1) * PAGE;
    list.replaceChildren(...shown.slice(start, start + PAGE).map(card));
    const count = shown.length === 1 ? "1 image" : `${shown.length.toLocaleString("en")} images`;
    status.textContent = asked.has("image") ? `${count}; ` : `${count}, page ${now} of ${pages()}`;
    if (asked.has("image")) status.append(make("a", { href: "#" }, "show all"));
    pager.hidden = pages() < 2;
    pager.querySelector("[data-step='-1']").disabled = now === 1;
    pager.querySelector("[data-step='1']").disabled = now === pages();
  }

  function go(changes, keep = true) {
    const asked = keep ? state() : new URLSearchParams();
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
    document.getElementById("gallery").scrollIntoView();
  }

  function move(step) {
    const cards = [...list.children];
    const here = cards.findIndex((one) => one.contains(document.activeElement));
    const next = cards[Math.min(cards.length - 1, Math.max(0, here + step))];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
  }

  form.addEventListener("input", (event) => go({ [event.target.name]: event.target.value, page: "" }));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); go({}, false); });
  for (const button of pager.querySelectorAll("button")) {
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  }
  window.addEventListener("hashchange", () => {
    render();
    if (state().has("image")) document.getElementById("gallery").scrollIntoView();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const actions = {
      "/": () => form.elements.class.focus(), ArrowLeft: () => turn(-1), ArrowRight: () => turn(1),
      j: () => move(1), k: () => move(-1), Escape: () => go({}, false),
    };
    const scrolls = event.target.scrollWidth > event.target.clientWidth && event.target !== document.body;
    if (!(event.key in actions) || (event.key.startsWith("Arrow") && scrolls)) return;
    event.preventDefault();
    actions[event.key]();
  });
  render();
  if (state().has("image")) document.getElementById("gallery").scrollIntoView();
})();
