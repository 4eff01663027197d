// What the tests read from a page, beside the script of the page itself.
const chart = (name) =>
  echarts.getInstanceByDom(document.querySelector(`[data-chart=${name}] .plot`));
// Where the shapes of a series stand, read on the chart's own axes.
const drawn = (name, series) => {
  const at = chart(name), model = at.getModel().getSeriesByIndex(series), data = model.getData();
  return data.mapArray((place) => {
    const shape = data.getItemGraphicEl(place), line = data.getLayout("points");
    const point = shape ? [shape.x, shape.y] : [line[2 * place], line[2 * place + 1]];
    return at.convertFromPixel({ seriesIndex: series }, point);
  });
};
const names = (name) => chart(name).getOption().series.map((one) => `${one.type} ${one.name ?? ""}`.trim());
// What is cut off, needs scrolling or is too small to read.
const legible = () => {
  const shown = (one) => one.getClientRects().length > 0, cut = [], small = [];
  const wide = [...document.querySelectorAll('.scroll')]
    .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.innerHTML.slice(0, 80));
  for (const cell of document.querySelectorAll('td, th')) {
    const place = cell.getBoundingClientRect();
    if (shown(cell) && (place.left < -1 || place.right > innerWidth + 1) && !cell.querySelector('.said')) cut.push(cell.textContent);
  }
  for (const text of document.querySelectorAll('.plot svg text')) {
    const own = text.getBoundingClientRect(), whole = text.ownerSVGElement.getBoundingClientRect();
    if (own.left < whole.left - 2 || own.right > whole.right + 2 || own.bottom > whole.bottom + 2) cut.push(text.textContent);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.textContent.trim() || !shown(parent) || parent.closest('style, script')) continue;
    const svg = parent.closest('svg'), box = svg?.viewBox.baseVal.width;
    const size = parseFloat(getComputedStyle(parent).fontSize) * (box ? svg.getBoundingClientRect().width / box : 1);
    if (size < 11) small.push([node.textContent, size]);
  }
  const labels = [...document.querySelectorAll('[data-chart=parallel] text')].map((one) => one.textContent);
  return { wide, cut, small, labels, page: document.documentElement.scrollWidth };
};
