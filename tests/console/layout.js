// What is wrong with the layout of this page: see layout.py.
() => {
  const wrong = []
  const name = (e) => {
    const classes = typeof e.className === 'string' ? e.className.trim().split(/\s+/).filter(Boolean) : []
    return `${[e.tagName.toLowerCase(), ...classes].join('.')} "${(e.textContent || '').trim().slice(0, 40)}"`
  }
  const seen = (e) => {
    const style = getComputedStyle(e)
    const box = e.getBoundingClientRect()
    return style.visibility !== 'hidden' && style.display !== 'none' && +style.opacity > 0.01 && box.width > 1 && box.height > 1
  }
  const scrolls = (e) => {
    for (let p = e; p && p !== document.documentElement; p = p.parentElement) {
      if (/auto|scroll/.test(getComputedStyle(p).overflowX) || p.matches('.el-scrollbar__wrap, .el-table')) return true
    }
    return false
  }
  // what of an element is in view: less what its scrolling ancestors hide
  const shown = (e) => {
    let { left, right, top, bottom } = e.getBoundingClientRect()
    for (let p = e.parentElement; p; p = p.parentElement) {
      if (getComputedStyle(p).overflowY === 'visible') continue
      const box = p.getBoundingClientRect()
      ;[left, right] = [Math.max(left, box.left), Math.min(right, box.right)]
      ;[top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)]
    }
    return { left, right, top, bottom }
  }
  const width = document.documentElement.clientWidth
  const whole = document.documentElement.scrollWidth
  if (whole > width + 1) wrong.push(`the page is ${whole} px wide in a window of ${width} px`)

  for (const e of document.querySelectorAll('body *')) {
    if (!seen(e) || e.closest('[aria-hidden=true], .skip, .side:not(.open), svg, canvas')) continue
    const box = e.getBoundingClientRect()
    if ((box.right > width + 1 || box.left < -1) && !scrolls(e)) wrong.push(`sticks out of the page: ${name(e)}`)
    const ownText = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())
    if (!ownText || e.closest('pre, textarea, [title], [data-may-cut]')) continue
    const style = getComputedStyle(e)
    const clips = style.overflowX === 'hidden' || style.textOverflow === 'ellipsis'
    if (clips && style.display !== 'inline' && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1) {
      wrong.push(`text is cut off: ${name(e)}`)
    }
  }

  for (const e of document.querySelectorAll('button, .el-tag, a.entry')) {
    if (seen(e) && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1) wrong.push(`the label does not fit: ${name(e)}`)
  }

  const touchable = [...document.querySelectorAll('main button, main a, header button')].filter(
    (e) => seen(e) && !e.closest('.el-input, .el-select, .el-table-fixed-column--right'),
  )
  // what scrolls away under a bar that stays can be scrolled out again
  const bar = (e) => (!e || getComputedStyle(e).position === 'sticky' ? e : bar(e.parentElement))
  for (const [i, a] of touchable.entries()) {
    for (const b of touchable.slice(i + 1)) {
      if (a.contains(b) || b.contains(a) || a.closest('header') !== b.closest('header') || bar(a) !== bar(b)) continue
      const [r, s] = [shown(a), shown(b)]
      const x = Math.min(r.right, s.right) - Math.max(r.left, s.left)
      const y = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top)
      if (x > 3 && y > 3) wrong.push(`lie over each other: ${name(a)} and ${name(b)}`)
    }
  }

  const features = 'common|nav|auth|keys|overview|usage|requests|endpoints|routes|users|teams|audit|settings|chat|welcome|roles'
  // code that is shown to be copied is not translated
  const text = [...document.querySelectorAll('pre')].reduce((rest, code) => rest.replace(code.innerText, ''), document.body.innerText)
  for (const match of text.matchAll(new RegExp(`\\b(?:${features})(?:\\.\\w+)+`, 'g'))) {
    wrong.push(`not translated: ${match[0]}`)
  }
  return [...new Set(wrong)]
}
