// The panel: sliders and fields in, numbers and curves out; the setting is kept in the page's address.
const Panel = (() => {
  const byId = (id) => document.getElementById(id);
  const PRESETS = {
    start: { pw: -40, pl: -44, rw: -40, rl: -44 },
    learnt: { pw: -35, pl: -60, rw: -40, rl: -44 },
    wrong: { pw: -44, pl: -38, rw: -40, rl: -44 },
    displaced: { pw: -55, pl: -75, rw: -40, rl: -44 },
    familiar: { ppl: 3 },
    unfamiliar: { ppl: 200 },
  };
  const ROWS = ["beta", "logit", "probability", "loss", "gradient", "weight", "relative", "beta_slope"];

  const controls = [...document.querySelectorAll(".control")].map((node) => {
    const field = node.querySelector("input[type=number]"), slider = node.querySelector("input[type=range]");
    const log = node.dataset.scale === "log";
    return {
      key: node.dataset.key, field, slider, error: node.querySelector(".error"),
      low: Number(field.min), high: Number(field.max), initial: Number(field.defaultValue),
      toSlider: (value) => (log ? Math.log(value) : value),
      fromSlider: (position) => (log ? Number(Math.exp(position).toPrecision(3)) : Number(position)),
    };
  });
  const byKey = Object.fromEntries(controls.map((control) => [control.key, control]));
  const defaults = Object.fromEntries(controls.map(({ key, initial }) => [key, initial]));
  let state = { ...defaults };

  // Four significant digits at most, a true minus, and no trailing exponent unless the number is tiny or huge.
  const format = (value) => {
    if (!Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size < 1e-4 || size >= 1e6 ? value.toExponential(2) : size < 1 ? value.toFixed(4) : size < 100 ? value.toFixed(3) : value.toFixed(1);
    return text.replaceAll("-", "−");
  };

  const put = (id, value, suffix = "") => {
    const cell = byId(id);
    cell.dataset.value = String(value);
    cell.textContent = format(value) + (Number.isFinite(value) ? suffix : "");
  };

  const brief = (value) => format(value).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  const times = (ratio) => (Number.isFinite(ratio) ? `${brief(ratio)} times` : "not comparable with");

  const sentence = (result) => {
    const { r, rules } = result;
    const moved = r === 0 ? "Policy and reference separate the two answers equally (r = 0), so every rule has the loss log 2 = 0.6931."
      : `Compared with the reference, the policy has moved ${brief(Math.abs(r))} nats towards the ${r > 0 ? "chosen" : "rejected"} answer.`;
    const weights = `On this pair the gradient of FooDPO is ${times(rules.foodpo.relative)} that of the fixed β, and that of the learnable β ${times(rules.learnable.relative)}.`;
    const fell = state.pw < state.rw && r > 0
      ? ` Yet the chosen answer itself became less likely than under the reference, by ${brief(state.rw - state.pw)} nats: the loss sees only the difference.` : "";
    return `${moved} ${weights}${fell}`;
  };

  const table = (result) => {
    put("r", result.r);
    for (const [id, gap] of [["policy-gap", state.pw - state.pl], ["reference-gap", state.rw - state.rl]]) {
      byId(id).textContent = gap < 0 ? `(${format(gap)})` : format(gap);
    }
    for (const [name, rule] of Object.entries(result.rules)) {
      for (const row of ROWS) put(`${name}-${row}`, rule[row], row === "relative" ? " ×" : "");
      put(`quick-${name}`, rule.loss);
    }
    byId("remarks").replaceChildren(...Object.values(result.rules).filter(({ note }) => note).map(({ note }) => {
      const item = document.createElement("li");
      item.textContent = note;
      return item;
    }));
    put("quick-r", result.r);
    byId("sentence").textContent = sentence(result);
  };

  const plots = (result) => {
    Plot.draw(byId("plot-loss"), result, Dpo.loss, "loss (nats)");
    Plot.draw(byId("plot-gradient"), result, Dpo.gradient, "gradient dℓ/dr");
    const half = Plot.reach(result.r);
    byId("curve-rows").replaceChildren(...[-1, -0.5, -0.25, 0, 0.25, 0.5, 1].map((share) => {
      const r = share * half, row = document.createElement("tr");
      const cells = Object.values(result.rules).flatMap(({ beta }) => [Dpo.loss(beta, r), Dpo.gradient(beta, r)]);
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = format(r);
      row.append(head, ...cells.map((value) => {
        const cell = document.createElement("td");
        cell.className = "number";
        cell.textContent = format(value);
        return cell;
      }));
      return row;
    }));
  };

  const fragment = () => "#" + controls.map(({ key }) => `${key}=${state[key]}`).join("&");

  // Browsers limit how often a page may change its address, and a slider fires often.
  let waiting = 0;
  const keep = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      try { history.replaceState(null, "", fragment()); } catch { /* the page works without it */ }
    }, 150);
  };

  const show = (typing) => {
    for (const control of controls) {
      const value = state[control.key];
      control.slider.value = control.toSlider(value);
      control.slider.setAttribute("aria-valuetext", format(value));
      if (control !== typing) {
        control.field.value = value;
        control.field.removeAttribute("aria-invalid");
        control.error.textContent = "";
      }
    }
    const result = Dpo.compare(state);
    table(result);
    plots(result);
  };

  const set = (changes) => {
    state = { ...state, ...changes };
    show();
    keep();
  };

  // What a value must be to be used: null if it is fine, else what is wrong with it.
  const fault = ({ low, high }, text) => {
    const value = Number(text);
    if (text.trim() === "" || !Number.isFinite(value)) return "Give a number.";
    return value < low || value > high ? `Give a number from ${low} to ${high}.`.replaceAll("-", "−") : null;
  };

  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1)), next = { ...defaults }, ignored = [];
    for (const [key, text] of given) {
      if (byKey[key] && fault(byKey[key], text) === null) next[key] = Number(text);
      else ignored.push(`${key}=${text}`.slice(0, 60));
    }
    byId("message").textContent = ignored.length ? `Not used from the address: ${ignored.join(", ")}.` : "";
    state = next;
    show();
  };
  // An address that only names a section (#exercises) says nothing about the setting.
  const hasSetting = () => location.hash.includes("=");

  for (const control of controls) {
    control.slider.addEventListener("input", () => set({ [control.key]: control.fromSlider(control.slider.value) }));
    control.field.addEventListener("input", () => {
      const wrong = fault(control, control.field.value);
      control.error.textContent = wrong ?? "";
      if (wrong) control.field.setAttribute("aria-invalid", "true");
      else {
        control.field.removeAttribute("aria-invalid");
        state = { ...state, [control.key]: Number(control.field.value) };
        show(control);
        keep();
      }
    });
    // A field left with something unusable shows again what is computed with.
    control.field.addEventListener("change", () => show());
  }
  for (const button of document.querySelectorAll("[data-preset]")) {
    button.addEventListener("click", () => set(button.dataset.preset === "reset" ? defaults : PRESETS[button.dataset.preset]));
  }
  byId("copy").addEventListener("click", async () => {
    const address = location.href.split("#")[0] + fragment();
    try {
      await navigator.clipboard.writeText(address);
      byId("message").textContent = "The link is copied.";
    } catch {
      history.replaceState(null, "", fragment());
      byId("message").textContent = "The browser does not let this page copy; the link is in the address bar.";
    }
  });
  addEventListener("hashchange", () => { if (hasSetting()) read(); });
  new ResizeObserver(() => plots(Dpo.compare(state))).observe(byId("plots"));
  for (const node of document.querySelectorAll("[data-swatch]")) {
    for (const [tag, attributes] of [["line", { class: `curve ${node.dataset.swatch}`, x1: 0, x2: 34, y1: 8, y2: 8 }],
      ["path", { class: `mark ${node.dataset.swatch}`, d: Plot.MARKERS[node.dataset.swatch], transform: "translate(17 8)" }]]) {
      const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
      node.append(part);
    }
  }
  byId("panel-body").hidden = false;
  if (hasSetting()) read(); else show();

  return { set };
})();
