// The page: a map to move around in, and a panel that tells about what one looks at.

const HELP = [
  ["drag, arrow keys with Shift", "move"], ["wheel, pinch, + and -", "nearer and farther"], ["0 or Home", "all of it"],
  ["arrow keys", "from cell to cell"], ["click, Enter", "keep a cell in the panel"], ["Escape", "let go"],
  ["/", "search a name or a class"], ["[ and ]", "another map of this page"], ["?", "this help"],
];

export function render({ model, el }) {
  el.classList.add("aa");
  const about = model.get("manifest");
  if (about.format > FORMAT) {
    el.dataset.drawn = "1";
    el.replaceChildren(element("p", { class: "aa-notice" }, "This page holds an atlas of a later version than its viewer can read: make it again with one version of activation-atlas."));
    return () => {};
  }
  if (!about.maps.length) return renderReports(new Book(model), el);
  return new Page(model, el).open();
}

// A page without a map: what was found, from top to bottom.
function renderReports(book, el) {
  el.dataset.drawn = "1";
  const reports = book.reports.map((_, number) => reportPanel(book, number));
  el.classList.add("aa-paper");
  el.replaceChildren(element("header", { class: "aa-head" }, element("h1", {}, book.title)),
    element("div", { class: "aa-reports" }, ...reports, ...howMade(book)));
  return () => {};
}

function howMade(book) {
  const rows = Object.entries(book.facts).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
  return [element("h3", {}, "How it was made"), element("dl", { class: "aa-facts" }, ...rows)];
}

class Page {
  constructor(model, el) {
    Object.assign(this, { model, el, book: new Book(model), state: { ...START }, camera: new Camera(), filter: new Filter(), hovered: null, last: "", later: 0 });
    // Whether the address is this page's: a notebook's belongs to the notebook.
    this.own = Boolean(model.get("own"));
    this.change = this.change.bind(this);
    this.rememberSoon = this.rememberSoon.bind(this);
    this.panel = element("section", { class: "aa-panel", "aria-label": "what is looked at", tabindex: "0" });
    this.live = element("p", { class: "aa-live", "aria-live": "polite" });
    this.help = element("dialog", { class: "aa-dialog", "aria-label": "help" }, element("h2", {}, "Keys"),
      element("dl", {}, ...HELP.flatMap(([key, does]) => [element("dt", {}, key), element("dd", {}, does)])), closing());
    this.report = element("dialog", { class: "aa-dialog", "aria-label": "report", onclose: () => { this.change({ report: null }); this.stage.canvas.focus(); } });
    this.stage = new Stage(this);
    this.head = new Head(this);
  }

  // Shows itself and listens; returns how to close it.
  open() {
    const { el, model, stage } = this;
    el.replaceChildren(this.head.element, stage.element, this.panel, this.live, this.help, this.report);
    const unlisten = listen(this);
    const back = () => this.restore(location.hash);
    const followHost = () => { if (model.get("view") !== this.last) this.restore(model.get("view")); };
    model.on?.("change:view", followHost);
    if (this.own) addEventListener("popstate", back);
    const watch = new ResizeObserver(stage.draw);
    watch.observe(stage.element);
    const shade = matchMedia("(prefers-color-scheme: dark)");
    shade.addEventListener("change", stage.draw);
    this.restore(model.get("view") || (this.own && location.hash) || this.book.start);
    return () => { unlisten(); clearTimeout(this.later); model.off?.("change:view", followHost); removeEventListener("popstate", back); watch.disconnect(); shade.removeEventListener("change", stage.draw); };
  }

  map() { return this.book.maps[this.state.map]; }

  level() { return this.map().levels.find((each) => each.grid === this.state.level) ?? this.camera.level(this.map().levels); }

  pinned() { return this.cellOf(this.state.cell); }

  card() { return this.state.channel === null ? null : this.map().card(this.state.channel); }

  // A cell of the map by its key, null where there is none.
  cellOf(key) {
    if (key === null) return null;
    const [grid, row, col] = key.split("/").map(Number);
    const level = this.map().levels.find((each) => each.grid === grid);
    const cell = level ? level.at(row, col) : -1;
    return cell < 0 ? null : { level, cell };
  }

  // A change of the state: shown, told in the address, and with `step` gone back on by the back button.
  change(more, step = true) {
    const { state, book } = this;
    Object.assign(state, more);
    const whole = (value, count) => (Number.isInteger(value) && value >= 0 && value < count ? value : null);
    state.map = whole(state.map, book.maps.length) ?? 0;
    state.beside = whole(state.beside, book.maps.length);
    state.class = whole(state.class, book.classes.length);
    if (!book.words.includes(state.name)) state.name = null;
    state.report = whole(state.report, book.reports?.length ?? 0);
    if (!this.map().levels.some(({ grid }) => grid === state.level)) state.level = null;
    if (!this.card()) state.channel = null;
    if (this.hovered && !this.stage.views().some(({ map }) => map === this.hovered.level.map)) this.hovered = null;
    for (const field of ["cell", "from"]) if (!this.cellOf(state[field])) state[field] = null;
    this.refresh();
    this.remember(step);
  }

  remember(step) {
    const { camera, model } = this;
    const address = toAddress({ ...this.state, x: camera.x, y: camera.y, zoom: camera.zoom });
    if (address === this.last) return;
    this.last = address;
    model.set?.("view", address);
    model.set?.("selected_cell", this.state.cell);
    model.save_changes?.();
    if (!this.own) return;
    try {
      history[step ? "pushState" : "replaceState"](null, "", address);
    } catch {
      // In a frame without an address of its own there is none to keep.
    }
  }

  rememberSoon() {
    clearTimeout(this.later);
    this.later = setTimeout(() => this.remember(false), 200);
  }

  restore(address) {
    const told = { ...START, x: 0.5, y: 0.5, zoom: 1, ...fromAddress(address) };
    const { x, y, zoom, ...state } = told;
    this.hovered = null;
    Object.assign(this.state, state);
    Object.assign(this.camera, { x, y, zoom: Math.min(MOST, Math.max(LEAST, zoom)) });
    this.camera.keepInside();
    this.change({}, false);
  }

  refresh() {
    this.head.refresh();
    this.showReport();
    this.filtered = this.filter.show(this.state, this.stage.views().map(({ map }) => map)).then((news) => {
      if (!news) return;
      if (this.card()) this.tell();
      this.head.showThrough();
      this.stage.draw();
    });
    this.tell();
    this.stage.draw();
  }

  showReport() {
    const { state, report } = this;
    if (state.report === null) {
      if (report.open) report.close();
      return;
    }
    report.replaceChildren(reportPanel(this.book, state.report), closing());
    if (!report.open) report.showModal();
  }

  // What the panel and those who hear the page are told: of the cell kept or pointed at, a channel's card, or the whole.
  tell() {
    const { panel } = this;
    const focused = panel.contains(document.activeElement) ? document.activeElement : null;
    this.fillPanel();
    if (!focused || panel.contains(focused)) return;
    // What had the focus was made anew: the same again, else the panel.
    const { class: label, channel } = focused.dataset;
    const again = label ? `[data-class="${label}"]` : channel ? `[data-channel="${channel}"]` : null;
    ((again && panel.querySelector(again)) ?? panel).focus();
  }

  fillPanel() {
    const { book, panel } = this;
    const kept = this.pinned();
    const about = kept ?? (this.card() ? null : this.hovered);
    if (about) {
      panel.replaceChildren(...cellPanel({ book, ...about, pinned: Boolean(kept), go: (cell) => { this.pin({ level: about.level, cell }); this.stage.canvas.focus(); }, filterBy: (label) => this.filterBy(label), openCard: (channel) => this.openCard(channel, about) }));
    } else if (this.card()) this.tellCard();
    else panel.replaceChildren(element("p", {}, "Point at a cell to read about it, click to keep it here. Wheel or pinch goes nearer: the grid grows finer as you do."), ...this.about());
    const spoken = this.hovered ?? kept;
    if (spoken) this.live.textContent = summary(book, spoken.level, spoken.cell);
  }

  tellCard() {
    const level = this.level();
    this.panel.replaceChildren(...cardPanel({
      book: this.book, map: this.map(), level, card: this.card(), values: this.filter.values.get(level), from: this.cellOf(this.state.from),
      go: (cell) => { this.pin({ level, cell }); this.stage.canvas.focus(); },
      back: () => { this.change({ cell: this.state.from, from: null, channel: null }); this.stage.canvas.focus(); },
      leave: () => { this.change({ channel: null, from: null }); this.stage.canvas.focus(); },
    }));
  }

  about() {
    const { book } = this;
    const item = (child) => element("li", {}, child);
    const reports = (book.reports ?? []).map((report, number) => item(element("button", { type: "button", class: "aa-button", onclick: () => this.change({ report: number }) }, report.title)));
    const links = book.links.map(([text, file]) => item(element("a", { href: file }, text)));
    const list = (tag, items) => (items.length ? element(tag, { class: "aa-notes" }, ...items) : "");
    return [list("ol", (book.notes ?? []).map(item)), list("ul", reports), list("ul", links), ...howMade(book)];
  }

  hover(found) {
    if (found?.cell === this.hovered?.cell && found?.level === this.hovered?.level) return;
    this.hovered = found;
    if (!this.card() || this.pinned()) this.tell();
    else if (found) this.live.textContent = summary(this.book, found.level, found.cell);
    this.stage.draw();
  }

  // Keeps a cell; one of the map beside makes that the first. move: so that it is well in view.
  pin(found, move = true) {
    if (!found) {
      this.change({ cell: null });
      return;
    }
    if (move) this.camera.show(found.level, found.cell);
    const { map } = found.level;
    const same = map.layer === this.map().layer && map.model === this.map().model;
    const turned = map === this.map() ? {} : { map: map.number, beside: this.state.map, from: null, ...(same ? {} : { channel: null }) };
    this.change({ ...turned, cell: found.level.key(found.cell) });
  }

  async openCard(channel, from) {
    const { map } = from.level;
    const turned = map === this.map() ? {} : { map: map.number, beside: this.state.map };
    this.change({ ...turned, channel, class: null, name: null, cell: null, from: from.level.key(from.cell) });
    await this.filtered;
    this.live.textContent = `What ${this.map().layer}:${channel} responds to.`;
    this.panel.querySelector(".aa-back")?.focus();
  }

  // One thing at a time: the cell, then the card.
  letGo() {
    this.hovered = null;
    this.change(this.state.cell !== null ? { cell: null } : { channel: null, from: null });
    this.stage.canvas.focus();
  }

  show(number) {
    this.hovered = null;
    const { map, beside } = this.state;
    this.change({ map: number, beside: beside === number ? map : beside, cell: null, level: null, channel: null, from: null });
  }

  turn(step) { this.show((this.state.map + step + this.book.maps.length) % this.book.maps.length); }

  // Through a class, a name, or neither.
  async filterBy(label, name = null) {
    this.change({ class: label, name, ...(label === null && name === null ? {} : { channel: null, from: null }) });
    if (name !== null) {
      const level = this.level();
      const count = level.names.filter((_, cell) => level.isA(cell, name)).length;
      this.live.textContent = `${count} of ${level.size} cells are called ${name}, or what lies below it.`;
    }
    if (label === null) return;
    const level = this.level();
    const known = await level.values("class", label);
    if (!known || this.state.class !== label) return;
    const best = known.reduce((most, value, cell) => (value > known[most] ? cell : most), 0);
    this.live.textContent = `The map through ${this.book.className(label)}. Strongest: ${summary(this.book, level, best)}`;
  }

  zoom(factor, left, top) {
    this.camera.zoomAt(factor, left, top);
    this.stage.draw();
    this.rememberSoon();
  }

  home() {
    this.camera.home();
    this.stage.draw();
    this.rememberSoon();
  }

  // From the cell in focus to the next one in a direction, over empty places; the first is the one in the middle.
  walk(step) {
    const level = this.level();
    const focus = [this.hovered, this.pinned()].find((each) => each?.level === level);
    const cell = focus ? level.next(focus.cell, step) : level.nearest(this.camera.x, this.camera.y);
    if (cell < 0) {
      this.live.textContent = "No cell that way.";
      return;
    }
    this.hovered = { level, cell };
    this.state.cell = null;
    this.camera.show(level, cell);
    this.tell();
    this.stage.draw();
    this.rememberSoon();
  }
}

const closing = () => element("form", { method: "dialog" }, element("button", { class: "aa-button" }, "Close"));
