// Elements and numbers, in short.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// A button that shows a text, or where that is a mere sign, is called by a name.
function button(text, name, act) {
  return element("button", { type: "button", class: "aa-button", title: name, "aria-label": text.length > 1 ? null : name, onclick: act }, text);
}

const shownNumber = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));

const quiet = (text) => element("p", { class: "aa-quiet" }, text);
