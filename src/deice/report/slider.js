"use strict";
// Which picture is shown, which of its layers lie left and right of the bar, and where the bar stands.
const pictures = [...document.querySelectorAll("[data-picture]")];
const press = (buttons, chosen) => buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === chosen)));

const choosers = [...document.querySelectorAll("[data-show]")];
choosers.forEach((button) => button.addEventListener("click", () => {
  press(choosers, button);
  pictures.forEach((picture) => { picture.hidden = picture.dataset.picture !== button.dataset.show; });
}));

pictures.forEach((picture) => {
  const stage = picture.querySelector(".stage");
  const range = stage.querySelector("input");
  if (range) range.addEventListener("input", () => stage.style.setProperty("--cut", range.value + "%"));
  ["left", "right"].forEach((side) => {
    const buttons = [...picture.querySelectorAll(`[data-side="${side}"]`)];
    buttons.forEach((button) => button.addEventListener("click", () => {
      press(buttons, button);
      stage.querySelectorAll("img").forEach((image) => {
        image.classList.toggle(side, image.dataset.layer === button.dataset.layer);
      });
      stage.querySelector(`.tag.${side}`).textContent = button.dataset.layer;
    }));
  });
});
