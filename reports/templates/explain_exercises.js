// The eight exercises. Answers are computed with the functions of the panel; known slips get a hint of their own.
(() => {
  const two = { pw: Dpo.logProb([0.5, 0.4]), pl: Dpo.logProb([0.3, 0.6]), rw: -2.0, rl: -2.5 };
  const equal = { pw: -2.0, pl: -2.5, rw: -3.0, rl: -3.5 };
  const gap = (s) => s.pw - s.pl;
  // answer, tolerance, [slip, hint]; `panel` is the setting that shows the case.
  const NUMBERS = {
    1: { answer: two.pw, tolerance: 0.002, slips: [
      [0.2, "That is the probability, 0.5 × 0.4. The model works with its logarithm."],
      [Math.log10(0.2), "That is the logarithm to base 10. Nats need the natural one."]] },
    2: { answer: two.pl, tolerance: 0.002, slips: [
      [0.18, "That is the probability, 0.3 × 0.6. The model works with its logarithm."],
      [Math.log10(0.18), "That is the logarithm to base 10. Nats need the natural one."]] },
    3: { answer: Dpo.preference(equal), tolerance: 0.0005, panel: { ...equal, beta: 1 }, slips: [
      [gap(equal), "That is the policy's gap alone. Subtract the reference's gap."],
      [2 * gap(equal), "The reference's gap is subtracted, not added."]] },
    4: { answer: Dpo.preference(two), tolerance: 0.002, panel: { ...two, beta: 1 }, slips: [
      [gap(two), "That is the policy's gap alone. Subtract the reference's gap."],
      [two.rw - two.rl, "That is the reference's gap alone."]] },
    5: { answer: Dpo.loss(1, 1.2), tolerance: 0.002, slips: [
      [Dpo.sigmoid(1.2), "That is σ(1.2). The loss is minus its logarithm."],
      [-Math.log10(Dpo.sigmoid(1.2)), "That is the logarithm to base 10. Use the natural one."],
      [Dpo.loss(1, -1.2), "That is the loss at r = −1.2."]] },
    6: { answer: Dpo.gradient(1, 0.8), tolerance: 0.002, slips: [
      [-Dpo.sigmoid(0.8), "That is −σ(r). The slope is −σ(−r)."],
      [Dpo.loss(1, 0.8), "That is the loss. The question is its slope."]] },
  };
  const CHOICES = {
    7: { answer: "falls", hints: {
      rises: "Look at the plot: further right, the policy agrees more with the label.",
      valley: "Look at the plot: the curve has no lowest point. (A loss that has one is IPO.)" } },
    8: { answer: "policy", hints: {
      both: "The reference is the fixed point from which r is measured. If it moved, r would lose its meaning.",
      reference: "The reference stays as it is: it is the point from which r is measured." } },
  };

  // People write a decimal comma and a true minus too.
  const parse = (text) => (text.trim() === "" ? NaN : Number(text.trim().replaceAll("−", "-").replace(",", ".")));

  const judgeNumber = ({ answer, tolerance, slips }, text) => {
    const value = parse(text);
    if (!Number.isFinite(value)) return [false, "Give a number, such as −1.25."];
    const near = (target) => Math.abs(value - target) <= tolerance;
    if (near(answer)) return [true, "Right."];
    if (near(-answer)) return [false, "Not yet: the size is right, the sign is not."];
    const slip = slips.find(([wrong]) => near(wrong) || near(-wrong));
    return [false, `Not yet. ${slip ? slip[1] : "Check each term, then try again."}`];
  };
  const judgeChoice = ({ answer, hints }, chosen) => {
    if (!chosen) return [false, "Choose one."];
    return chosen === answer ? [true, "Right."] : [false, `Not yet. ${hints[chosen]}`];
  };

  const right = new Set();
  for (const form of document.querySelectorAll("form[data-exercise]")) {
    const number = form.dataset.exercise, verdict = form.querySelector(".verdict");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = new FormData(form).get("answer") ?? "";
      const [good, text] = NUMBERS[number] ? judgeNumber(NUMBERS[number], given) : judgeChoice(CHOICES[number], given);
      verdict.textContent = text;
      verdict.className = `verdict ${good ? "right" : "wrong"}`;
      if (good) right.add(number); else right.delete(number);
      document.getElementById("score").textContent = `${right.size} of 8 right`;
    });
  }
  for (const button of document.querySelectorAll("[data-show]")) {
    button.addEventListener("click", () => {
      Panel.set(NUMBERS[button.dataset.show].panel);
      document.getElementById("panel").scrollIntoView();
      document.getElementById("h-panel").focus();
    });
  }
})();
