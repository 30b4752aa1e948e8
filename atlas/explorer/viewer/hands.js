// Pointers, wheel and keys -> what the page does.

const CLICK = 5; // pixels of movement up to which a press is a click
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function listen(page) {
  listenToPointers(page);
  listenToMinimap(page);
  return listenToKeys(page);
}

// One pointer drags, two pinch, a short press keeps a cell.
function listenToPointers(page) {
  const { stage, camera } = page;
  const { canvas } = stage;
  const held = new Map();
  let moved = 0;

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
    if (held.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    // A release that the page was not told of, as behind a menu.
    if (event.pointerType === "mouse" && event.buttons === 0) held.delete(event.pointerId);
    const from = held.get(event.pointerId);
    if (!from) {
      page.hover(stage.cellAt(event));
      return;
    }
    const to = [event.clientX, event.clientY];
    if (held.size === 1) camera.move(to[0] - from[0], to[1] - from[1]);
    else pinch([...held].find(([id]) => id !== event.pointerId)[1], from, to);
    moved += Math.hypot(to[0] - from[0], to[1] - from[1]);
    held.set(event.pointerId, to);
    stage.draw();
  });
  const release = (event) => {
    if (!held.delete(event.pointerId) || held.size) return;
    if (moved >= CLICK || event.type !== "pointerup") page.rememberSoon();
    else page.pin(stage.cellAt(event), false);
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { if (!held.size) page.hover(null); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const box = canvas.getBoundingClientRect();
    const speed = event.deltaMode === 1 ? 0.05 : event.ctrlKey ? 0.01 : 0.0016;
    page.zoom(Math.exp(-event.deltaY * speed), (event.clientX - box.left) % camera.width, event.clientY - box.top);
  }, { passive: false });

  function pinch(other, from, to) {
    const box = canvas.getBoundingClientRect();
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    camera.zoomAt(apart(to) / Math.max(1, apart(from)), ((to[0] + other[0]) / 2 - box.left) % camera.width, (to[1] + other[1]) / 2 - box.top);
  }
}

function listenToMinimap({ stage, camera, rememberSoon }) {
  const jump = (event) => {
    const box = stage.minimap.getBoundingClientRect();
    Object.assign(camera, { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height });
    camera.keepInside();
    stage.draw();
    rememberSoon();
  };
  stage.minimap.addEventListener("pointerdown", jump);
  stage.minimap.addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
}

function listenToKeys(page) {
  const { stage, camera } = page;
  const onMap = {
    Enter: () => page.hovered && page.pin(page.hovered),
    "+": () => page.zoom(1.3), "=": () => page.zoom(1.3), "-": () => page.zoom(1 / 1.3),
    0: () => page.home(), Home: () => page.home(),
  };
  const anywhere = {
    "/": () => page.head.find(), "?": () => page.help.showModal(), Escape: () => page.letGo(),
    "[": () => page.turn(-1), "]": () => page.turn(1),
  };
  // AltGr, with which some keyboards write brackets, counts as Ctrl and Alt.
  const withModifier = (event) => (event.ctrlKey || event.metaKey || event.altKey) && !event.getModifierState("AltGraph");
  stage.canvas.addEventListener("keydown", (event) => {
    if (withModifier(event)) return;
    const step = STEPS[event.key];
    if (step && event.shiftKey) {
      camera.move(-step[1] * 60, -step[0] * 60);
      stage.draw();
      page.rememberSoon();
    } else if (step) page.walk(step);
    else if (onMap[event.key]) onMap[event.key]();
    else return;
    event.preventDefault();
  });
  const everywhere = (event) => {
    if (event.target.matches("input, select") || withModifier(event) || page.el.querySelector("dialog[open]")) return;
    if (!anywhere[event.key]) return;
    anywhere[event.key]();
    event.preventDefault();
  };
  page.el.addEventListener("keydown", everywhere);
  if (!page.own) return () => {};
  // A page of its own hears keys before anything on it has the focus.
  const nowhere = (event) => { if (event.target === document.body) everywhere(event); };
  document.addEventListener("keydown", nowhere);
  return () => document.removeEventListener("keydown", nowhere);
}
