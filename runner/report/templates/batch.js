(() => {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const count = document.getElementById("count");
  const text = document.getElementById("text");
  const words = [...document.querySelectorAll(".chips button")];
  const texts = new Map();
  const number = new Intl.NumberFormat("en");
  const all = document.getElementById("all");
  let order = rows;
  // Laying out thousands of rows takes the browser a while at every sort; a page of them is there at once.
  let most = 500;

  const textOf = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };

  const show = () => {
    const wanted = words.filter((word) => word.getAttribute("aria-pressed") === "true").map((word) => word.dataset.word);
    const parts = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let fitting = 0;
    for (const row of order) {
      const its = row.dataset.word.split(" ");
      const fits = (!wanted.length || wanted.some((word) => its.includes(word))) && parts.every((part) => textOf(row).includes(part));
      fitting += fits;
      row.hidden = !fits || fitting > most;
    }
    const of = `${number.format(rows.length)} job${rows.length === 1 ? "" : "s"}`;
    count.textContent = fitting === rows.length ? of : `${number.format(fitting)} of ${of}`;
    all.hidden = fitting <= most;
    all.textContent = `show all ${number.format(fitting)}`;
  };

  const sort = (column, down) => {
    const head = heads[column];
    const numeric = head.dataset.kind === "number";
    const key = (row) => {
      const cell = row.cells[column];
      return numeric ? Number(cell.dataset.v ?? cell.textContent) : cell.textContent.trim().toLowerCase();
    };
    const keyed = rows.map((row, at) => ({ row, at, key: key(row) }));
    const sign = down ? -1 : 1;
    keyed.sort((a, b) => (a.key < b.key ? -sign : a.key > b.key ? sign : a.at - b.at));
    order = keyed.map((item) => item.row);
    body.replaceChildren();
    show();
    body.append(...order);
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    // Numbers are looked at from the largest on, but for the row's own.
    const first = head.classList.contains("n") && column > 0;
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sort(column, now ? now === "ascending" : first);
    });
    head.replaceChildren(button);
  });
  for (const word of words) {
    word.addEventListener("click", () => {
      word.setAttribute("aria-pressed", String(word.getAttribute("aria-pressed") !== "true"));
      show();
    });
  }
  all.addEventListener("click", () => {
    most = Infinity;
    show();
  });
  let waiting = 0;
  text.addEventListener("input", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(show);
  });
  document.querySelector(".filter").hidden = false;
  show();
})();
