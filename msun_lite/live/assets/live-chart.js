// The confidence of each network in one class at every size: curves that are drawn as they are computed.

import { h, percent, svg } from "./live-dom.js";

const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [220, 44, 12, 12, 42];

export class Chart {
  #networks;
  #about;
  #shares; // network -> size -> shares of its classes
  #size = 0;
  #chosen = null; // the class that the reader has chosen, or the photograph's own
  #until = 0;
  #queued = false;

  /**
   * @param networks, about: of live.json.
   * @param id of the list of classes, that of no other element.
   * @param choose called with a size in pixels when the reader points at one.
   */
  constructor(networks, about, id, choose) {
    this.#networks = networks;
    this.#about = about;
    this.#shares = networks.map(() => new Map());
    const names = [...new Set(networks.flatMap(({ classes }) => classes))];
    this.select = h("select", { id }, ...names.map((name) => h("option", {}, name)));
    this.select.addEventListener("change", () => {
      this.#chosen = this.select.value;
      this.#draw();
    });
    this.canvas = svg("svg", { role: "img", height: HEIGHT, class: "ml-curves" });
    this.canvas.addEventListener("click", (event) => {
      const size = Math.round(this.#sizeAt(event.clientX - this.canvas.getBoundingClientRect().left));
      choose(Math.min(Math.max(size, about.smallest), this.#until));
    });
    const legend = networks.map(({ title }, place) => h("span", { class: `ml-key ml-n${place % 6}` }, title));
    this.element = h("figure", { class: "ml-chart" },
      h("figcaption", {}, h("label", { for: id }, "Confidence in "), this.select, " at every size",
        h("span", { class: "ml-keys" }, ...legend)),
      this.canvas);
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  /** Begin anew, for a photograph of a class (null: unknown) that has sizes up to `largest` pixels. */
  clear(label, largest) {
    this.#shares.forEach((found) => found.clear());
    this.#chosen = [...this.select.options].some(({ value }) => value === label) ? label : null;
    this.#until = largest;
    this.#draw();
  }

  add(network, size, shares) {
    this.#shares[network].set(size, shares);
    this.#draw();
  }

  has({ network, size }) {
    return this.#shares[network].has(size);
  }

  /** Show which size the slider is at. */
  mark(size) {
    this.#size = size;
    this.#draw();
  }

  #width() {
    return Math.max(this.element.clientWidth, 240);
  }

  #across(size) {
    const { smallest, largest } = this.#about;
    return LEFT + ((size - smallest) / (largest - smallest)) * (this.#width() - LEFT - RIGHT);
  }

  #sizeAt(place) {
    const { smallest, largest } = this.#about;
    return smallest + ((place - LEFT) / (this.#width() - LEFT - RIGHT)) * (largest - smallest);
  }

  /** The class to draw: the chosen one, else what the networks say at the largest size that is computed. */
  #class() {
    if (this.#chosen) return this.#chosen;
    const totals = new Map();
    this.#networks.forEach(({ classes }, network) => {
      const found = this.#shares[network];
      const shares = found.get(Math.max(...found.keys())) ?? [];
      shares.forEach((share, label) => totals.set(classes[label], (totals.get(classes[label]) ?? 0) + share));
    });
    return [...totals].sort((one, other) => other[1] - one[1])[0]?.[0] ?? this.select.value;
  }

  /** Draw once, however often it is asked for before the next frame. */
  #draw() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      this.#redraw();
    });
  }

  #redraw() {
    const width = this.#width();
    const bottom = HEIGHT - BOTTOM;
    const up = (share) => bottom - share * (bottom - TOP);
    const shown = this.#class();
    this.select.value = shown;
    const grid = [0, 0.5, 1].flatMap((share) => [
      svg("line", { x1: LEFT, x2: width - RIGHT, y1: up(share), y2: up(share), class: "ml-grid" }),
      svg("text", { x: LEFT - 8, y: up(share) + 4, "text-anchor": "end" }, `${100 * share} %`),
    ]);
    const ticks = this.#about.ticks.flatMap((size) => [
      svg("line", { x1: this.#across(size), x2: this.#across(size), y1: bottom, y2: bottom + 5, class: "ml-axis" }),
      svg("text", { x: this.#across(size), y: bottom + 19, "text-anchor": "middle" }, String(size)),
    ]);
    const title = svg("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "image size in pixels");
    const marker = svg("line",
      { x1: this.#across(this.#size), x2: this.#across(this.#size), y1: TOP, y2: bottom, class: "ml-marker" });
    const curves = this.#networks.flatMap(({ classes }, network) => {
      const label = classes.indexOf(shown);
      if (label < 0) return [];
      const points = [...this.#shares[network]].sort(([one], [other]) => one - other)
        .map(([size, shares]) => [this.#across(size), up(shares[label])]);
      const line = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
      const now = this.#shares[network].get(this.#size);
      const dot = now ? [svg("circle", { cx: this.#across(this.#size), cy: up(now[label]), r: 4.5 })] : [];
      return [svg("g", { class: `ml-curve ml-n${network % 6}` }, svg("polyline", { points: line }), ...dot)];
    });
    this.canvas.setAttribute("width", width);
    this.canvas.replaceChildren(...grid, ...ticks, title, marker, ...curves);
    this.canvas.setAttribute("aria-label", this.#words(shown));
  }

  #words(shown) {
    const said = this.#networks.map(({ title, classes }, network) => {
      const label = classes.indexOf(shown);
      const at = (size) => this.#shares[network].get(size)?.[label];
      const ends = [this.#about.smallest, this.#until].filter((size) => at(size) !== undefined);
      return `${title}: ${ends.map((size) => `${percent(at(size))} at ${size} pixels`).join(", ") || "not known yet"}`;
    });
    return `Confidence in ${shown} against image size. ${said.join(". ")}.`;
  }
}
