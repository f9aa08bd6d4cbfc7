"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // How a number was computed: one popover for hover and focus. Numbers of a table share one stop of the Tab key.
  const popover = byId("how");
  let shown = null;
  const hide = () => {
    if (shown) shown.removeAttribute("aria-describedby");
    shown = null;
    popover.hidden = true;
  };
  const tell = (number) => {
    if (number === shown) return;
    hide();
    shown = number;
    popover.textContent = number.dataset.how;
    popover.hidden = false;
    number.setAttribute("aria-describedby", "how");
    const box = number.getBoundingClientRect(), own = popover.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - own.width - 8));
    const above = box.top - own.height - 6;
    popover.style.left = `${left + window.scrollX}px`;
    popover.style.top = `${(above > 0 ? above : box.bottom + 6) + window.scrollY}px`;
  };
  const groups = new Map();
  for (const number of document.querySelectorAll(".n")) {
    number.dataset.how = number.title;
    number.removeAttribute("title");
    const home = number.closest("tbody") || number.closest("li, p") || number;
    if (!groups.has(home)) groups.set(home, []);
    groups.get(home).push(number);
    number.addEventListener("mouseenter", () => tell(number));
    number.addEventListener("mouseleave", () => { if (document.activeElement !== number) hide(); });
    number.addEventListener("focus", () => tell(number));
    number.addEventListener("blur", hide);
    number.addEventListener("click", () => number.focus());
  }
  for (const [home, numbers] of groups) {
    numbers[0].tabIndex = 0;
    home.addEventListener("keydown", (event) => {
      const from = event.target.closest(".n");
      if (!from) return;
      if (event.key === "Escape") return hide();
      const now = [...home.querySelectorAll(".n")], at = now.indexOf(from);
      const row = from.closest("tr"), cell = from.closest("td, th");
      const beside = (way) => {
        for (let r = row && row[way]; r; r = r[way]) {
          const other = r.cells[cell.cellIndex] && r.cells[cell.cellIndex].querySelector(".n");
          if (other) return other;
        }
        return null;
      };
      const steps = {
        ArrowRight: () => now[at + 1], ArrowLeft: () => now[at - 1], Home: () => now[0], End: () => now[now.length - 1],
        ArrowDown: () => (row ? beside("nextElementSibling") : now[at + 1]),
        ArrowUp: () => (row ? beside("previousElementSibling") : now[at - 1]),
      };
      if (!(event.key in steps)) return;
      event.preventDefault();
      const to = steps[event.key]();
      if (!to) return;
      from.tabIndex = -1;
      to.tabIndex = 0;
      to.focus();
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  window.addEventListener("scroll", () => { if (shown && document.activeElement !== shown) hide(); }, { passive: true });

  // Sorting: a click on a column's head; numbers as numbers, what is empty last.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return "";
    const text = (cell.dataset.value !== undefined ? cell.dataset.value : cell.textContent).trim();
    const number = Number.parseFloat(text.replace("−", "-").replace("<", ""));
    return Number.isNaN(number) ? text : number;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    if (table.tBodies[0].rows.length < 2) continue;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const keyed = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
        const empty = (v) => v === "" || v === "–";
        keyed.sort(([a], [b]) => {
          if (empty(a) || empty(b)) return empty(a) - empty(b);
          const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
          return up ? order : -order;
        });
        table.tBodies[0].append(...keyed.map(([, row]) => row));
      });
    });
  }

  // A link to a folded section opens it.
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", () => {
      const fold = document.querySelector(link.getAttribute("href") + " > details");
      if (fold) fold.open = true;
    });
  }

  // Paper has no clicks: everything folded is printed open.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    hide();
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  window.addEventListener("afterprint", () => { for (const one of folded) one.open = false; });

  // The sample browser. Everything a model wrote goes in as text, never as markup.
  const data = JSON.parse(byId("samples-data").textContent);
  const selects = ["f-bench", "f-left", "f-right", "f-outcome", "f-ppl", "f-beta"].map(byId);
  const [bench, left, right, outcome, perplexity, betas] = selects;
  if (!bench) return;
  const marks = byId("f-diff");
  let at = 0;
  const fill = (select, entries, chosen) => {
    select.replaceChildren();
    for (const [value, text] of entries) {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = text;
      select.append(option);
    }
    select.value = entries.some(([value]) => value === chosen) ? chosen : entries[0][0];
  };
  const policies = data.policies.map((p, i) => [String(i), p.name]);
  fill(bench, data.benchmarks.map((b, i) => [String(i), b.name]), "0");
  fill(left, policies, policies.length > 1 ? "1" : "0");
  fill(right, policies, String(policies.length > 2 ? policies.length - 1 : 0));
  const current = () => data.benchmarks[Number(bench.value)];
  const score = (answer) => (answer && answer[1] !== null ? answer[1] * (current().higher ? 1 : -1) : null);
  const winner = (a, b) => {
    const x = score(a), y = score(b);
    return x === null || y === null ? "unknown" : x > y ? "left" : x < y ? "right" : "tie";
  };
  const right_ = (answer) => answer && answer[1] === 1;
  const OUTCOMES = {
    any: () => true,
    left: (a, b) => winner(a, b) === "left",
    right: (a, b) => winner(a, b) === "right",
    tie: (a, b) => winner(a, b) === "tie",
    bothwrong: (a, b) => a && b && a[1] === 0 && b[1] === 0,
    bothright: (a, b) => right_(a) && right_(b),
    onlyleft: (a, b) => right_(a) && b && b[1] === 0,
    onlyright: (a, b) => right_(b) && a && a[1] === 0,
  };
  const betaCuts = () => {
    const found = current().prompts.map((p) => (p.answers[right.value] || [])[3])
      .filter((v) => v !== null && v !== undefined).sort((x, y) => x - y);
    return found.length < 3 || found[0] === found[found.length - 1] ? null
      : [found[Math.floor(found.length / 3)], found[Math.floor((2 * found.length) / 3)]];
  };
  const offer = () => {
    const b = current();
    const ways = [["any", "any"], ["left", "A"], ["right", "B"], ["tie", "neither (tie)"]];
    ways.push(["bothwrong", b.binary ? "both wrong" : "both scored 0"], ["bothright", b.binary ? "both right" : "both scored 1"]);
    ways.push(["onlyleft", b.binary ? "only A right" : "A 1, B 0"], ["onlyright", b.binary ? "only B right" : "B 1, A 0"]);
    fill(outcome, ways, outcome.value);
    const cut = b.quartiles.map((q) => Math.exp(q).toPrecision(3));
    fill(perplexity, cut.length
      ? [["any", "any"], ["0", `lowest quarter (to ${cut[0]})`], ["1", `${cut[0]} to ${cut[1]}`], ["2", `${cut[1]} to ${cut[2]}`], ["3", `highest quarter (from ${cut[2]})`]]
      : [["any", "not recorded"]], perplexity.value);
    perplexity.disabled = !cut.length;
    const thirds = betaCuts();
    fill(betas, thirds
      ? [["any", "any"], ["0", `lowest third (to ${thirds[0].toPrecision(3)})`], ["1", "middle third"], ["2", `highest third (from ${thirds[1].toPrecision(3)})`]]
      : [["any", "beta does not vary, or is not recorded"]], betas.value);
    betas.disabled = !thirds;
  };
  const inside = (value, cuts, wanted) => {
    if (wanted === "any") return true;
    return value !== null && value !== undefined && String(cuts.filter((c) => value >= c).length) === wanted;
  };
  const matching = () => {
    const b = current(), thirds = betaCuts() || [];
    return b.prompts.filter((p) => {
      const one = p.answers[left.value], two = p.answers[right.value];
      return (one || two) && OUTCOMES[outcome.value](one, two) && inside(p.logppl, b.quartiles, perplexity.value)
        && inside(two && two[3], thirds, betas.value);
    });
  };

  // Words: by the browser's own rules where it has them, so that Chinese is cut into words too.
  const segmenter = typeof Intl.Segmenter === "function" ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;
  const wordsOf = (text) => (segmenter ? [...segmenter.segment(text)].map((s) => s.segment) : text.split(/(\s+)/).filter(Boolean));
  const MOST_WORDS = 1500;
  const common = (a, b) => { // positions of a longest common subsequence, in each text
    const width = b.length + 1, table = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        table[i * width + j] = a[i] === b[j] ? table[(i + 1) * width + j + 1] + 1
          : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
      }
    }
    const inA = new Set(), inB = new Set();
    for (let i = 0, j = 0; i < a.length && j < b.length;) {
      if (a[i] === b[j]) { inA.add(i++); inB.add(j++); }
      else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++;
      else j++;
    }
    return [inA, inB];
  };
  const write = (element, words, kept) => {
    element.replaceChildren();
    let run = "", marked = false;
    const flush = () => {
      if (!run) return;
      if (marked) {
        const mark = document.createElement("mark");
        mark.textContent = run;
        element.append(mark);
      } else element.append(run);
      run = "";
    };
    words.forEach((word, i) => {
      const differs = !kept.has(i);
      if (differs !== marked) { flush(); marked = differs; }
      run += word;
    });
    flush();
  };
  const wording = (answer) => (!answer ? "(this policy has no answer to this prompt)" : answer[0] === "" ? "(empty answer)" : answer[0]);
  const compareTexts = (a, b) => {
    const [one, two] = [byId("left-text"), byId("right-text")];
    const [x, y] = [wording(a), wording(b)];
    if (marks.checked && a && b && a[0] && b[0]) {
      const [u, v] = [wordsOf(x), wordsOf(y)];
      if (u.length <= MOST_WORDS && v.length <= MOST_WORDS) {
        const [inA, inB] = common(u, v);
        write(one, u, inA);
        write(two, v, inB);
        return;
      }
    }
    one.textContent = x;
    two.textContent = y;
  };
  const card = (side, policy, answer, metric, won) => {
    byId(side + "-name").textContent = data.policies[Number(policy)].name;
    const said = !answer || answer[1] === null ? "not scored" : `${metric} ${answer[1].toFixed(3)}`;
    const beta = answer && answer[3] !== null ? `, beta about ${answer[3].toPrecision(3)}` : "";
    byId(side + "-score").textContent = said + beta + (answer && answer[2] === "length" ? ", stopped at the token limit" : "") + (won ? ", better" : "");
    byId(side).classList.toggle("won", won);
  };
  const judged = (row) => {
    const list = byId("judgements");
    list.replaceChildren();
    const [a, b] = [Number(left.value), Number(right.value)];
    for (const judge of current().judges) {
      for (const [first, second, preference, reason, words] of judge.said[row.id] || []) {
        if (!((first === a && second === b) || (first === b && second === a)) || a === b) continue;
        const forA = preference === null ? null : first === a ? preference : 1 - preference;
        const verdict = forA === null ? "no verdict" : forA > 0.5 ? `A (${forA.toFixed(2)})` : forA < 0.5 ? `B (${(1 - forA).toFixed(2)})` : "tie";
        const item = document.createElement("li");
        item.textContent = `${judge.name}: ${verdict}${reason ? ` (${reason})` : ""}`;
        words.forEach((said, swapped) => {
          if (said === null) return;
          const mine = (swapped ? second : first) === a;
          const when = document.createElement("div"), quote = document.createElement("pre");
          when.className = "quiet small";
          when.textContent = !judge.paired ? `on ${mine ? "A" : "B"}:` : mine ? "with A shown first:" : "with B shown first, so that its A is B here:";
          quote.dir = "auto";
          quote.textContent = said;
          item.append(when, quote);
        });
        list.append(item);
      }
    }
    byId("judged").hidden = !list.children.length;
  };
  const show = () => {
    const rows = matching();
    at = Math.max(0, Math.min(at, rows.length - 1));
    byId("count").textContent = rows.length ? `${at + 1} of ${rows.length}` : "no prompt matches";
    byId("prev").disabled = at <= 0;
    byId("next").disabled = at >= rows.length - 1;
    byId("sample").hidden = !rows.length;
    if (!rows.length) return;
    const row = rows[at], a = row.answers[left.value], b = row.answers[right.value];
    const won = winner(a, b);
    byId("prompt-id").textContent = row.id;
    byId("prompt-facts").textContent = row.logppl === null ? "" : `perplexity ${Math.exp(row.logppl).toPrecision(3)}`;
    byId("prompt").textContent = row.prompt;
    card("left", left.value, a, current().metric, won === "left");
    card("right", right.value, b, current().metric, won === "right");
    compareTexts(a, b);
    judged(row);
  };
  const move = (by) => { at += by; show(); };
  for (const select of selects) select.addEventListener("change", () => { at = 0; offer(); show(); });
  marks.addEventListener("change", show);
  byId("prev").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("samples").addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  byId("browser").hidden = false;
  offer();
  show();
})();
