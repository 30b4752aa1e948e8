// The whole state in the page's address, so that a link shows what one sees.

const START = { map: 0, beside: null, level: null, cell: null, class: null, name: null, channel: null, from: null, report: null, sign: 1, strength: 1, plain: false, labels: true };
const FIELDS = ["map", "beside", "level", "x", "y", "zoom", "cell", "class", "name", "channel", "from", "report", "sign", "strength", "plain", "labels"];

function toAddress(state) {
  const parts = new URLSearchParams();
  for (const field of FIELDS) {
    const value = state[field];
    if (value === null || value === undefined || value === "") continue;
    parts.set(field, typeof value === "number" && !Number.isInteger(value) ? value.toFixed(5) : String(value));
  }
  return `#${parts}`;
}

// What an address says, as far as it can be understood.
function fromAddress(address) {
  const parts = new URLSearchParams(address.replace(/^#/, ""));
  const state = {};
  for (const field of ["x", "y", "zoom", "strength"]) {
    const value = Number(parts.get(field));
    if (parts.has(field) && Number.isFinite(value)) state[field] = value;
  }
  if ("strength" in state) state.strength = Math.min(4, Math.max(0.25, state.strength));
  for (const field of ["map", "beside", "level", "class", "channel", "report", "sign"]) {
    if (/^-?\d+$/.test(parts.get(field) ?? "")) state[field] = Number(parts.get(field));
  }
  if ("sign" in state) state.sign = state.sign < 0 ? -1 : 1;
  for (const field of ["plain", "labels"]) {
    if (parts.has(field)) state[field] = parts.get(field) === "true";
  }
  for (const field of ["cell", "from"]) {
    if (/^\d+\/\d+\/\d+$/.test(parts.get(field) ?? "")) state[field] = parts.get(field);
  }
  if (parts.get("name")) state.name = parts.get("name");
  return state;
}
