// Loss and gradient against the margin r, as inline SVG drawn at the width the page has.
const Plot = (() => {
  const HEIGHT = 250, LEFT = 64, RIGHT = 12, TOP = 12, BOTTOM = 44, SAMPLES = 160, NARROWEST = 20;
  const MARKERS = {
    fixed: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    foodpo: "M-4.5 -4.5h9v9h-9z",
    learnable: "M0 -6l5.5 10h-11z",
  };

  const element = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // Steps of 1, 2 or 5 times a power of ten; about `count` of them cover the span.
  const ticks = (low, high, count) => {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough * 0.999);
    const out = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(i * step);
    return { step, values: out };
  };

  const tickText = (value, step) => {
    if (Math.abs(value) < step / 2) return "0";
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return (digits > 4 ? value.toExponential(0) : value.toFixed(digits)).replace("-", "−");
  };

  // The axis does not follow beta, so that a change of beta is seen to change the curves; it grows with r in doublings.
  const reach = (r) => {
    let half = NARROWEST;
    while (Math.abs(r) > 0.9 * half) half *= 2;
    return half;
  };

  const draw = (svg, { r, rules }, curve, yTitle) => {
    const width = Math.max(260, svg.parentNode.clientWidth);
    const half = reach(r);
    const xs = Array.from({ length: SAMPLES + 1 }, (_, i) => -half + (2 * half * i) / SAMPLES);
    const lines = Object.entries(rules).map(([name, { beta }]) => ({ name, ys: xs.map((x) => curve(beta, x)), at: curve(beta, r) }));
    const all = lines.flatMap((line) => line.ys);
    const lowest = Math.min(0, ...all), highest = Math.max(0, ...all);
    const room = 0.05 * (highest - lowest || 1);
    const y0 = lowest < 0 ? lowest - room : 0, y1 = highest > 0 ? highest + room : 0;
    const px = (x) => LEFT + ((x + half) / (2 * half)) * (width - LEFT - RIGHT);
    const py = (y) => TOP + ((y1 - y) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);

    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const vertical = ticks(y0, y1, 5), horizontal = ticks(-half, half, width < 420 ? 4 : 8);
    for (const y of vertical.values) {
      svg.append(element("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y) }));
      svg.append(element("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, tickText(y, vertical.step)));
    }
    for (const x of horizontal.values) {
      svg.append(element("line", { class: x === 0 ? "axis" : "grid", x1: px(x), x2: px(x), y1: TOP, y2: HEIGHT - BOTTOM }));
      svg.append(element("text", { x: px(x), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, tickText(x, horizontal.step)));
    }
    svg.append(element("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: py(0), y2: py(0) }));
    svg.append(element("text", { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "margin r (nats)"));
    svg.append(element("text", { transform: `translate(12 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, yTitle));
    svg.append(element("line", { class: "here", x1: px(r), x2: px(r), y1: TOP, y2: HEIGHT - BOTTOM }));
    for (const line of lines) {
      const points = xs.map((x, i) => `${px(x).toFixed(1)},${py(line.ys[i]).toFixed(1)}`).join(" ");
      svg.append(element("polyline", { class: `curve ${line.name}`, points }));
    }
    for (const line of lines) {
      svg.append(element("path", { class: `mark ${line.name}`, d: MARKERS[line.name], transform: `translate(${px(r)} ${py(line.at)})` }));
    }
  };

  return { draw, reach, MARKERS };
})();
