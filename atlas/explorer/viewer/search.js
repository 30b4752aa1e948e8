// Type-ahead search over names and classes: an input with a list (the ARIA combobox pattern).

let searches = 0;

// choose: takes {name} or {class}, or null.
function wordSearch(book, choose) {
  // Several pages may be in one notebook.
  const own = `aa-list-${(searches += 1)}`;
  const list = element("ul", { class: "aa-list", role: "listbox", id: own, hidden: true, "aria-label": "names and classes" });
  const input = element("input", {
    type: "search", role: "combobox", placeholder: book.words.length ? (book.told.length ? "name or class…" : "name…") : "class…", "aria-label": "show the map through a name or a class", autocomplete: "off",
    "aria-expanded": "false", "aria-controls": own, "aria-autocomplete": "list", spellcheck: "false",
  });
  let found = [];
  let active = -1;
  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const mark = (number) => {
    active = number;
    [...list.children].forEach((option, place) => option.setAttribute("aria-selected", place === number));
    const option = list.children[number];
    if (option) {
      input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    }
  };
  const said = (found) => (found === null ? "" : (found.name ?? book.className(found.class)));
  const take = (entry) => {
    input.value = said(entry);
    close();
    choose(entry);
  };
  const show = () => {
    const text = input.value.trim().toLowerCase();
    found = text ? [...matches(book.words, text).map((place) => ({ name: book.words[place] })), ...matches(book.told, text).map((label) => ({ class: label }))].slice(0, 40) : [];
    list.replaceChildren(...found.map((entry, place) => element("li", {
      role: "option", id: `${own}-${place}`, "data-class": entry.class, "data-name": entry.name, onmousedown: (event) => { event.preventDefault(); take(entry); },
    }, said(entry), entry.name ? element("span", { class: "aa-kind" }, "name") : "")));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
    mark(found.length ? 0 : -1);
    if (!text) choose(null);
  };
  input.addEventListener("input", show);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && found.length) mark((active + 1) % found.length);
    else if (event.key === "ArrowUp" && found.length) mark((active + found.length - 1) % found.length);
    else if (event.key === "Enter" && active >= 0 && !list.hidden) take(found[active]);
    else if (event.key === "Escape") { input.value = ""; close(); choose(null); } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return { input, list, set: (entry) => { input.value = said(entry); close(); } };
}

// Numbers of the classes whose names begin with the text, then those with a word that does, then those that hold it.
function matches(classes, text, most = 40) {
  const ranked = [[], [], []];
  classes.forEach((name, label) => {
    const place = name.toLowerCase().indexOf(text);
    if (place < 0) return;
    ranked[place === 0 ? 0 : /[\s,-]/.test(name[place - 1]) ? 1 : 2].push(label);
  });
  return ranked.flat().slice(0, most);
}
