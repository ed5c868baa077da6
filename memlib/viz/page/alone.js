// The model of a widget without a kernel, in the element PLACE: the traits it is GIVEN, and who is told of changes.

const [place, values, listeners] = [document.getElementById(PLACE), GIVEN, {}];
const model = {
  get: (name) => values[name],
  set: (name, value) => {
    if (values[name] === value) return;
    values[name] = value;
    listeners[`change:${name}`]?.forEach((listener) => listener());
  },
  on: (event, listener) => (listeners[event] ??= new Set()).add(listener),
  off: (event, listener) => listeners[event].delete(listener),
  save_changes: () => {
    try {
      if ("link" in values) history.replaceState(null, "", `#${values.link}`);
    } catch {} // a frame without an address, or too many changes for the browser: the page goes on
  },
};
const decoded = (coded) => new DataView(Uint8Array.from(atob(coded), (c) => c.charCodeAt(0)).buffer);
for (const name in values) if (values[name].base64) values[name] = decoded(values[name].base64);
values.standalone = true;
if ("link" in values && location.hash.includes("=")) values.link = location.hash;
if ("link" in values) addEventListener("hashchange", () => location.hash.includes("=") && location.reload());
Object.assign(place, { model, ...started }); // so that other scripts of the page can set the traits, too
started.initialize?.({ model });
started.render({ model, el: place });
