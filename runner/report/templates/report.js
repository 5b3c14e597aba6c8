(() => {
  const buttons = document.querySelector(".buttons");
  const section = document.getElementById("conversation");
  const fold = (open) => section.querySelectorAll("details").forEach((part) => { part.open = open; });
  const actions = {
    open: () => fold(true),
    close: () => fold(false),
    bad: (button) => button.setAttribute("aria-pressed", String(section.classList.toggle("trouble-only"))),
  };
  buttons.hidden = false;
  buttons.addEventListener("click", (event) => {
    const name = event.target.dataset.do;
    if (name) actions[name](event.target);
  });
})();
