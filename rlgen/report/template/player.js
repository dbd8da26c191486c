"use strict";
// Plays the images of a page in the time of the robot, and marks the present step in all plots.
const STEP_MS = 50;
const controls = document.getElementById("controls");
const slider = document.getElementById("step");
const button = document.getElementById("play");
const films = [...document.querySelectorAll(".film")];
const strips = [...document.querySelectorAll(".strip")];
const marks = [...document.querySelectorAll("line.now")];
const last = Number(slider.max);
let step = 0;
let timer = null;

function latest(elements) {
  const before = elements.filter((element) => Number(element.dataset.step) <= step);
  return before[before.length - 1];
}

function mark(elements) {
  const present = latest(elements);
  for (const element of elements) element.classList.toggle("present", element === present);
  return present;
}

function show(wanted) {
  step = Math.min(last, Math.max(0, Math.round(wanted) || 0));
  slider.value = step;
  document.getElementById("now").textContent = `step ${step} of ${last}, ${(step * STEP_MS / 1000).toFixed(2)} s`;
  for (const film of films) {
    const frame = mark([...film.querySelectorAll("img")]);
    const ended = step > Number(film.dataset.last) ? ", the last one" : "";
    film.querySelector("figcaption span").textContent = `step ${frame.dataset.step}${ended}`;
  }
  for (const strip of strips) mark([...strip.querySelectorAll("figure")]);
  for (const line of marks) {
    const x = last ? (Number(slider.dataset.width) * step) / last : 0;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }
}

function stop() {
  clearInterval(timer);
  timer = null;
  button.textContent = "Play";
}

function play() {
  const started = performance.now() - (step < last ? step : 0) * STEP_MS;
  timer = setInterval(() => {
    show(Math.floor((performance.now() - started) / STEP_MS));
    if (step >= last) stop();
  }, STEP_MS / 2);
  button.textContent = "Pause";
}

button.addEventListener("click", () => (timer === null ? play() : stop()));
slider.addEventListener("input", () => {
  stop();
  show(Number(slider.value));
});
for (const figure of document.querySelectorAll(".strip figure"))
  figure.addEventListener("click", () => {
    stop();
    show(Number(figure.dataset.step));
  });
for (const plot of document.querySelectorAll(".plot svg"))
  plot.addEventListener("click", (event) => {
    const box = plot.getBoundingClientRect();
    stop();
    show(((event.clientX - box.left) / box.width) * last);
  });
const seek = () => show(Number(new URLSearchParams(location.hash.slice(1)).get("step")));
addEventListener("hashchange", seek);
controls.hidden = false;
seek();
