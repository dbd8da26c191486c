"use strict";
// Leaves the rows that have the chosen value of every filter. The choice is in the fragment of the page's address.
const form = document.getElementById("filters");
const choices = [...form.querySelectorAll("select")];
const rows = [...document.querySelectorAll("tbody.rows tr")];

function apply() {
  const set = choices.filter((choice) => choice.value !== "");
  for (const row of rows) row.hidden = set.some((choice) => row.getAttribute("data-" + choice.name) !== choice.value);
  const left = rows.filter((row) => !row.hidden).length;
  document.getElementById("left").textContent = left === rows.length ? "all rows" : `${left} of ${rows.length} rows`;
}

function read() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  for (const choice of choices) {
    choice.value = wanted.get(choice.name) ?? "";
    if (choice.selectedIndex < 0) choice.value = "";
  }
  apply();
}

function write() {
  const set = choices.filter((choice) => choice.value !== "").map((choice) => [choice.name, choice.value]);
  location.replace("#" + new URLSearchParams(set));
  apply();
}

form.addEventListener("change", write);
document.getElementById("reset").addEventListener("click", () => {
  for (const choice of choices) choice.value = "";
  write();
});
addEventListener("hashchange", read);
form.hidden = false;
read();
