// The bar over the map: search, filter, grid, maps, and what is done with the view.

class Head {
  constructor(page) {
    const { book } = page;
    this.page = page;
    this.search = wordSearch(book, (entry) => page.filterBy(entry?.class ?? null, entry?.name ?? null));
    this.levels = element("select", { "aria-label": "grid", title: "grid", onchange: () => page.change({ level: this.levels.value === "auto" ? null : Number(this.levels.value) }) });
    this.beside = this.besideSelect();
    [this.plain, this.plainLabel] = this.tick("plain", "equal size", "icons of equal size, whatever their number of activations");
    [this.labels, this.labelsLabel] = this.tick("labels", "labels", "what regions and cells are called, where photographs bear a name out");
    this.maps = element("div", { class: "aa-maps", role: "group", "aria-label": "maps", hidden: book.maps.length < 2 }, ...book.maps.map((map) => this.mapButton(map)));
    this.link = button("Copy link", "copy a link to what you see", () => this.copyLink());
    // In a notebook there is no address to this view.
    this.link.hidden = !page.own || location.protocol === "about:";
    const bar = element("div", { class: "aa-bar-top" },
      book.told.length || book.words.length ? element("span", { class: "aa-search" }, this.search.input, this.search.list) : "", this.filterOptions(), this.levels, this.beside,
      this.plainLabel, this.labelsLabel, element("span", { class: "aa-gap" }),
      element("span", { class: "aa-group" }, button("−", "farther", () => page.zoom(1 / 1.5)), button("+", "nearer", () => page.zoom(1.5)), button("All", "show all of it", () => page.home())),
      element("span", { class: "aa-group" }, this.link, button("PNG", "save what you see as a picture", () => page.stage.save()), button("?", "help", () => page.help.showModal())));
    this.element = element("header", { class: "aa-head" }, element("h1", {}, book.title), this.maps, bar);
  }

  mapButton(map) {
    return element("button", { type: "button", class: "aa-map-button", "aria-pressed": "false", onclick: () => this.page.show(map.number) },
      this.page.stage.thumbnail(map), element("span", {}, map.name));
  }

  besideSelect() {
    const { book, change } = this.page;
    const select = element("select", { "aria-label": "beside it", title: "another map beside it", hidden: book.maps.length < 2, onchange: () => change({ beside: select.value === "" ? null : Number(select.value) }) },
      element("option", { value: "" }, "alone"), ...book.maps.map((map) => element("option", { value: map.number }, `beside ${map.name}`)));
    return select;
  }

  // What the map is seen through, for or against, and how strongly.
  filterOptions() {
    const { state, change } = this.page;
    this.through = element("span", { class: "aa-through" });
    this.sign = element("button", { type: "button", class: "aa-button", title: "for or against", onclick: () => change({ sign: -state.sign }) });
    this.strength = element("input", { type: "range", min: "0.25", max: "4", step: "0.05", value: "1", "aria-label": "intensity of the filter", title: "intensity", oninput: () => change({ strength: Number(this.strength.value) }, false) });
    const whole = button("×", "show the whole map", () => change({ class: null, name: null, channel: null, from: null }));
    this.filter = element("span", { class: "aa-filter", hidden: true }, this.through, this.sign, this.strength, whole);
    return this.filter;
  }

  tick(field, text, tip) {
    const box = element("input", { type: "checkbox", onchange: () => this.page.change({ [field]: box.checked }) });
    return [box, element("label", { class: "aa-tick", title: tip }, box, text)];
  }

  find() {
    this.search.input.focus();
    this.search.input.select();
  }

  // As the state says.
  refresh() {
    const { page, page: { state } } = this;
    this.search.set(state.class !== null ? { class: state.class } : state.name !== null ? { name: state.name } : null);
    this.filter.hidden = state.class === null && state.channel === null && state.name === null;
    this.sign.hidden = this.strength.hidden = state.name !== null;
    this.showThrough();
    const [more, less] = state.channel === null ? ["for", "against"] : ["above", "below"];
    this.sign.textContent = state.sign > 0 ? more : less;
    this.strength.value = state.strength;
    const grids = page.map().levels.map(({ grid }) => element("option", { value: grid }, `${grid} × ${grid}`));
    this.levels.replaceChildren(element("option", { value: "auto" }, "grid by zoom"), ...grids);
    this.levels.value = state.level ?? "auto";
    for (const option of this.beside.options) option.hidden = option.value === String(state.map);
    this.beside.value = state.beside ?? "";
    this.plain.checked = state.plain;
    this.labels.checked = state.labels;
    [...this.maps.children].forEach((each, number) => each.setAttribute("aria-pressed", String(number === state.map)));
  }

  // What the map is seen through, and whether this page can show it so.
  showThrough() {
    const { page, page: { state } } = this;
    const lost = page.filter.kind !== null && page.filter.values.size > 0 && !page.filter.covers(page.level());
    this.through.textContent = `${state.channel === null ? "" : `${page.map().layer}:${state.channel}`}${lost ? " not kept in this page" : ""}`;
  }

  async copyLink() {
    const { page } = this;
    page.remember(false);
    const address = location.href.split("#")[0] + page.last;
    try {
      await navigator.clipboard.writeText(address);
      this.link.textContent = "Copied";
      setTimeout(() => { this.link.textContent = "Copy link"; }, 1500);
    } catch {
      // Where a page may not write to the clipboard, its reader can.
      const field = element("input", { class: "aa-link", readonly: true, value: address, "aria-label": "link to what you see" });
      this.link.replaceWith(field);
      field.focus();
      field.select();
      field.addEventListener("blur", () => field.replaceWith(this.link), { once: true });
    }
  }
}
