"use strict";
(() => {
  const data = JSON.parse(document.getElementById("samples-data").textContent);
  const byId = (id) => document.getElementById(id);
  const [bench, left, right, outcome] = ["f-bench", "f-left", "f-right", "f-outcome"].map(byId);
  if (!bench) return;
  let at = 0;
  const fill = (select, entries, chosen) => {
    for (const [value, text] of entries) {
      const option = document.createElement("option");
      option.value = value;
      option.textContent = text;
      select.append(option);
    }
    select.value = chosen;
  };
  const names = data.policies.map((p) => [p.id, p.name]);
  fill(bench, data.benchmarks.map((b, i) => [String(i), b.name]), "0");
  fill(left, names, names[Math.min(1, names.length - 1)][0]);
  fill(right, names, names[names.length > 2 ? names.length - 1 : 0][0]);
  const nameOf = Object.fromEntries(names);
  const winner = (a, b) => {
    if (!a || !b || a.score === null || b.score === null || a.score === undefined || b.score === undefined) return "unknown";
    return a.score > b.score ? "left" : a.score < b.score ? "right" : "tie";
  };
  const matching = () => data.benchmarks[Number(bench.value)].prompts.filter((p) => {
    const a = p.answers[left.value], b = p.answers[right.value];
    return (a || b) && (outcome.value === "any" || winner(a, b) === outcome.value);
  });
  const card = (side, policy, answer, metric, won) => {
    byId(side + "-name").textContent = nameOf[policy];
    const score = !answer || answer.score === null || answer.score === undefined ? "not scored" : metric + " " + answer.score.toFixed(3);
    byId(side + "-score").textContent = score + (answer && answer.finish === "length" ? ", stopped at the token limit" : "") + (won ? ", higher" : "");
    byId(side + "-text").textContent = !answer ? "(this policy has no answer to this prompt)" : answer.text === "" ? "(empty answer)" : answer.text;
    byId(side).classList.toggle("won", won);
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
    const metric = data.benchmarks[Number(bench.value)].metric, won = winner(a, b);
    byId("prompt-id").textContent = row.id;
    byId("prompt").textContent = row.prompt;
    card("left", left.value, a, metric, won === "left");
    card("right", right.value, b, metric, won === "right");
  };
  const move = (by) => { at += by; show(); };
  for (const select of [bench, left, right, outcome]) select.addEventListener("change", () => { at = 0; show(); });
  byId("prev").addEventListener("click", () => move(-1));
  byId("next").addEventListener("click", () => move(1));
  byId("samples").addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  byId("browser").hidden = false;
  show();
})();
