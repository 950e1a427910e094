// The live page, as one element: <msun-live>. What is in it before stands until the reader starts it, or for good where
// it cannot start. Its files are found beside this one; live.json, networks and photographs, in the folder below that the
// attribute `from` names.
//
//   element.start()      loads the networks
//   element.open(file)   opens a photograph; element.ask(size) answers at a size
//   "msun-answer"        is sent for every answer: {size, answers: [{title, scale, logits, shares, ...}]}

import { ACCEPTED } from "./live-files.js";
import { Chart } from "./live-chart.js";
import { h, percent } from "./live-dom.js";

const QUIET = 700; // milliseconds without a new answer before it is spoken
const NAMED = 3; // classes named of each answer
const SHADE = 130; // of 255, on what a network does not go by at all
const base = new URL(".", import.meta.url);

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
let made = 0; // elements, for ids that differ
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const flops = (count) => (count < 1e9 ? `${(count / 1e6).toPrecision(3)}\u00a0MFLOPs` : `${(count / 1e9).toPrecision(3)}\u00a0GFLOPs`);

class MsunLive extends HTMLElement {
  #about = null; // live.json
  #home = null; // where that is
  #worker = null;
  #tickets = 0;
  #waiting = []; // questions that are asked: {ticket, resolve}
  #opening = null; // the photograph that is being opened: {id, resolve, reject}
  #photographs = 0;
  #shown = null; // the photograph that is shown: {id, about}
  #size = 0;
  #parts = {};
  #spoken = 0;
  #cleanup = new AbortController();

  async connectedCallback() {
    if (this.#about) return;
    this.#cleanup = new AbortController();
    this.#home = new URL(this.getAttribute("from") ?? "", base);
    const button = h("button", { type: "button", class: "ml-button ml-main", onclick: () => this.start() },
      "Try it with your own photograph");
    const note = h("p", { class: "ml-small" });
    this.#parts.start = h("div", { class: "ml-start" }, button, note);
    this.append(this.#parts.start);
    try {
      if (typeof WebAssembly === "undefined") throw new Error("this browser has no WebAssembly, or it is switched off");
      const response = await fetch(new URL("live.json", this.#home));
      if (!response.ok) throw new Error(`live.json: ${response.status}`);
      this.#about = await response.json();
    } catch (error) {
      return this.#cannot(error);
    }
    note.textContent = `Loads ${megabytes(this.#bytes())}: ${this.#about.networks.length} networks and what runs them. `
      + "Everything is computed on your device. Your photograph stays there.";
  }

  disconnectedCallback() {
    this.#cleanup.abort();
    this.#worker?.terminate();
  }

  #bytes() {
    const packed = Object.entries(this.#about.runtime).filter(([name]) => name.endsWith(".gz")).map(([, bytes]) => bytes);
    return sum([...packed, ...this.#about.networks.flatMap(({ files }) => Object.values(files))]);
  }

  #cannot(error) {
    this.#parts.start.replaceChildren(
      h("p", { class: "ml-error", role: "alert" }, `The live page cannot start: ${error.message}.`));
  }

  /** Load the networks, show the form, and answer to the first photograph; resolves when that is done. */
  start() {
    this.#parts.started ??= this.#start();
    return this.#parts.started;
  }

  async #start() {
    const total = this.#bytes();
    const bar = h("progress", { max: total, value: 0, "aria-label": "Loading the networks" });
    const note = h("p", { class: "ml-small" }, "Loading ...");
    this.#parts.start.replaceChildren(bar, note);
    try {
      await new Promise((resolve, reject) => {
        this.#worker = new Worker(new URL("live-worker.js", base), { type: "module" });
        this.#worker.onerror = () => reject(new Error("its script cannot be loaded"));
        this.#worker.onmessage = ({ data }) => {
          if (data.kind === "progress") {
            bar.value = data.loaded;
            note.textContent = data.loaded < total
              ? `${megabytes(data.loaded)} of ${megabytes(total)}` : "Preparing the networks ...";
          } else if (data.kind === "ready") resolve();
          else reject(new Error(data.message));
        };
        this.#worker.postMessage({ kind: "load", base: base.href, home: this.#home.href, about: this.#about });
      });
    } catch (error) {
      this.#worker?.terminate();
      return this.#cannot(error);
    }
    this.#worker.onmessage = ({ data }) => this.#heard(data);
    this.#build();
    const [first] = this.#about.photographs;
    this.#parts.slider.focus({ preventScroll: true }); // the button that had the focus is gone
    if (first) await this.#openExample(first);
  }

  /**
   * Open a photograph, and answer at the size that the slider is at.
   *
   * @param file a Blob.
   * @param about its entry in live.json, if it is an example.
   * @returns a promise of the answer; it is rejected, with one line, for a file that cannot be read.
   */
  async open(file, about = null) {
    const id = ++this.#photographs;
    this.#opening?.reject(new Error("another photograph was opened"));
    this.#parts.error.hidden = true;
    this.#parts.main.classList.add("ml-busy");
    try {
      const opened = await new Promise((resolve, reject) => {
        this.#opening = { id, resolve, reject };
        this.#worker.postMessage({ kind: "photograph", id, file });
      });
      this.#show(opened, file, about);
    } catch (error) {
      if (id === this.#photographs) {
        this.#complain(`${file.name ? `${file.name}: ` : ""}${error.message}.`);
        if (this.#shown) this.#fillIn();
      }
      throw error;
    } finally {
      if (id === this.#photographs) this.#parts.main.classList.remove("ml-busy");
    }
    return this.ask(Math.min(this.#size, this.#shown.largest));
  }

  /** Answer at a size in pixels: a promise of the answer, or of the next newer one. */
  ask(size) {
    this.#size = size;
    const ticket = ++this.#tickets;
    const { slider, output } = this.#parts;
    slider.value = size;
    slider.setAttribute("aria-valuetext", `${size} pixels`);
    output.textContent = `${size} px`;
    this.#parts.chart.mark(size);
    const answered = new Promise((resolve) => this.#waiting.push({ ticket, resolve }));
    this.#worker.postMessage({ kind: "question", ticket, size });
    return answered;
  }

  #heard(data) {
    if (data.kind === "opened" && data.id === this.#opening?.id) {
      this.#opening.resolve(data);
      this.#opening = null;
    } else if (data.kind === "failed") {
      this.#opening?.reject(new Error(data.message));
      this.#opening = null;
    } else if (data.kind === "answer" && data.id === this.#shown?.id) {
      this.#answer(data);
    } else if (data.kind === "point" && data.id === this.#shown?.id) {
      this.#parts.chart.add(data.network, data.size, data.shares);
    }
  }

  #build() {
    const { smallest, largest, ticks, networks, photographs } = this.#about;
    const parts = this.#parts;
    const open = (file) => this.open(file).catch(() => {}); // said in the page
    const id = `ml-slider-${++made}`;
    const listen = { signal: this.#cleanup.signal };

    const input = (label, attributes = {}) => {
      const field = h("input", { type: "file", accept: ACCEPTED, ...attributes });
      field.addEventListener("change", () => {
        if (field.files[0]) open(field.files[0]);
        field.value = ""; // the same file can be chosen again
      });
      return h("label", { class: "ml-button" }, label, field);
    };
    parts.thumbs = photographs.map((about) => h("button",
      { type: "button", class: "ml-thumb", "aria-pressed": "false", onclick: () => this.#openExample(about).catch(() => {}) },
      h("img", { alt: about.title, src: new URL(`photographs/${about.name}`, this.#home).href })));
    const camera = input("Take one", { capture: "environment" });
    camera.classList.add("ml-camera");
    const sources = h("div", { class: "ml-sources", role: "group", "aria-label": "Photograph" }, ...parts.thumbs,
      input("Choose a photograph"), camera, h("span", { class: "ml-small ml-hint" }, "or drop or paste one here"));
    parts.error = h("p", { class: "ml-error", role: "alert", hidden: true });
    parts.note = h("p", { class: "ml-small ml-note" });

    parts.output = h("output", { class: "ml-size", "aria-hidden": "true" });
    parts.slider = h("input", { type: "range", id, class: "ml-slider", min: smallest, max: largest, step: 1 });
    parts.slider.addEventListener("input", () => this.ask(Number(parts.slider.value)));
    const share = (size) => (size - smallest) / (largest - smallest);
    const marks = ticks.map((size) => h("span", { style: `--share:${share(size)}` }, String(size)));
    const control = h("div", { class: "ml-control" }, h("label", { for: id }, "Image size"), parts.output,
      parts.slider, h("div", { class: "ml-ticks", "aria-hidden": "true" }, ...marks));

    parts.cards = networks.map(card);
    parts.maps = h("input", { type: "checkbox", checked: true });
    parts.maps.addEventListener("change", () => parts.main.classList.toggle("ml-plain", !parts.maps.checked));
    const lit = h("label", { class: "ml-small ml-check" }, parts.maps, "Light up what each network goes by");
    parts.chart = new Chart(networks, this.#about, `ml-class-${made}`, (size) => this.ask(size));
    parts.status = h("p", { class: "ml-hidden", role: "status", "aria-live": "polite" });
    const known = [...new Set(networks.flatMap(({ classes }) => classes))];
    const knows = h("details", { class: "ml-small" }, h("summary", {}, `The ${known.length.toLocaleString("en")} things that they know`),
      h("p", {}, known.join(", ")));
    parts.main = h("div", { class: "ml-main-part" }, sources, parts.error, control,
      h("div", { class: "ml-cards" }, ...parts.cards.map(({ element }) => element)), lit, parts.note, parts.chart.element,
      knows, parts.status);
    this.#size = smallest;
    parts.main.classList.toggle("ml-touch", navigator.maxTouchPoints > 0);
    this.replaceChildren(parts.main);

    this.addEventListener("dragover", (event) => {
      event.preventDefault();
      parts.main.classList.add("ml-over");
    }, listen);
    for (const kind of ["dragleave", "drop"]) {
      this.addEventListener(kind, () => parts.main.classList.remove("ml-over"), listen);
    }
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
      else this.#complain("Expected a file, got something else; save the picture and drop that.");
    }, listen);
    document.addEventListener("paste", (event) => {
      if (event.clipboardData.files[0]) open(event.clipboardData.files[0]);
    }, listen);
  }

  async #openExample(about) {
    const response = await fetch(new URL(`photographs/${about.name}`, this.#home));
    return this.open(await response.blob(), about);
  }

  /** Show that another photograph is answered to. */
  #show({ id, largest, width, height }, file, about) {
    const { parts, networks, photographs } = { parts: this.#parts, ...this.#about };
    const label = labelOf(about, networks);
    this.#shown = { id, about, label, largest };
    parts.slider.max = largest;
    parts.slider.style.setProperty("--reach", String(
      (largest - this.#about.smallest) / (this.#about.largest - this.#about.smallest)));
    parts.thumbs.forEach((thumb, place) => thumb.setAttribute("aria-pressed", String(photographs[place] === about)));
    parts.note.replaceChildren(...describe(about, label, width, height));
    parts.chart.clear(label, largest);
    this.#fillIn();
  }

  /** Let the curves be computed: both ends first, then ever finer. */
  #fillIn() {
    const { smallest, networks } = this.#about;
    const { largest } = this.#shown;
    const sizes = new Set([largest]);
    for (let step = 64; step >= 1; step /= 2) {
      for (let size = smallest; size <= largest; size += step) sizes.add(size);
    }
    const points = [...sizes].flatMap((size) => networks.map((_, network) => ({ network, size })));
    this.#worker.postMessage({ kind: "points", points: points.filter((point) => !this.#parts.chart.has(point)) });
  }

  #answer({ ticket, size, answers }) {
    const { cards, chart } = this.#parts;
    const { label } = this.#shown;
    answers.forEach((answer, place) => {
      cards[place].show(answer, label);
      chart.add(place, size, answer.shares);
    });
    clearTimeout(this.#spoken);
    this.#spoken = setTimeout(() => this.#speak(size, answers), QUIET);
    const detail = { size, answers: answers.map((answer, place) => ({ ...this.#about.networks[place], ...answer })) };
    this.dispatchEvent(new CustomEvent("msun-answer", { detail }));
    for (const { resolve } of this.#waiting.filter((one) => one.ticket <= ticket)) resolve(detail);
    this.#waiting = this.#waiting.filter((one) => one.ticket > ticket);
  }

  #speak(size, answers) {
    const said = answers.map(({ shares }, place) => {
      const { title, classes } = this.#about.networks[place];
      const best = shares.indexOf(Math.max(...shares));
      return `${title}: ${classes[best]}, ${percent(shares[best])}`;
    });
    this.#parts.status.textContent = `${size} pixels. ${said.join(". ")}.`;
  }

  #complain(message) {
    this.#parts.error.textContent = message;
    this.#parts.error.hidden = false;
  }
}

/** Which of the classes that an example is of the networks know, the closest; null for one's own photograph, or none. */
function labelOf(about, networks) {
  return about?.labels.find((label) => networks.some(({ classes }) => classes.includes(label))) ?? null;
}

/** What is said of a photograph: what it is, whether the networks can know it, and who took it. */
function describe(about, label, width, height) {
  if (!about) return [`Your photograph: ${width} × ${height} pixels. It has not left your device.`];
  const title = about.title[0].toUpperCase() + about.title.slice(1);
  const said = label
    ? `${title}. Of what the networks know, ${label} is right.`
    : `${title}: nothing that the networks know, so every answer is wrong.`;
  return [`${said} Photograph: `, h("a", { href: about.source }, about.credit), "."];
}

/** A network's part of the page: {element, show(answer, label)}. */
function card(network, place) {
  const picture = h("canvas", { class: "ml-picture", role: "img" });
  const map = h("canvas", { class: "ml-map", "aria-hidden": "true" });
  const rows = Array.from({ length: Math.min(NAMED, network.classes.length) }, () => {
    const [name, share, bar] = [h("span", { class: "ml-class" }), h("span", { class: "ml-share" }), h("i")];
    return { name, share, bar, element: h("li", {}, name, share, h("span", { class: "ml-bar" }, bar)) };
  });
  const about = h("p", { class: "ml-about" });
  const element = h("section", { class: `ml-card ml-n${place % 6}` }, h("p", { class: "ml-name" }, network.title),
    h("div", { class: "ml-view" }, picture, map), h("ol", { class: "ml-answers" }, ...rows.map((row) => row.element)), about);

  const show = (answer, label) => {
    const order = answer.shares.map((_, index) => index).sort((one, other) => answer.shares[other] - answer.shares[one]);
    rows.forEach((row, rank) => {
      const name = network.classes[order[rank]];
      const share = answer.shares[order[rank]];
      row.name.textContent = name;
      row.share.textContent = percent(share);
      row.bar.style.width = `${100 * share}%`;
      row.element.classList.toggle("ml-right", name === label);
    });
    draw(picture, answer.size, answer.size, answer.picture);
    picture.setAttribute("aria-label", `The photograph as ${network.title} gets it, ${answer.size} × ${answer.size} pixels`);
    map.hidden = !answer.map;
    if (answer.map) draw(map, answer.map.width, answer.map.height, shade(answer.map.values));
    const served = network.scales.length > 1 ? `subnet of ${answer.scale} px` : "one network";
    about.replaceChildren(served, h("br"), h("span", { class: "ml-dot" }, " · "), `${flops(answer.flops)} · ${answer.milliseconds.toFixed(0)}\u00a0ms`);
  };
  return { element, show };
}

/** RGBA bytes that darken what a network does not go by. */
function shade(values) {
  const bytes = new Uint8ClampedArray(4 * values.length);
  values.forEach((value, place) => { bytes[4 * place + 3] = SHADE * (1 - value); });
  return bytes;
}

function draw(canvas, width, height, bytes) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
}

customElements.define("msun-live", MsunLive);
