/** Colours of charts, taken from the page's tokens. */
export interface ChartLook {
  /** Of series, in this order. */
  series: string[]
  /** What is summed up as "others". */
  rest: string
  /** What failed. */
  bad: string
  text: string
  line: string
  surface: string
}

/** The look that the tokens have now; `token` reads one, such as `--tg-chart-1`. */
export function lookOf(token: (name: string) => string): ChartLook {
  return {
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((number) => token(`--tg-chart-${number}`)),
    rest: token('--tg-chart-rest'),
    bad: token('--tg-chart-bad'),
    text: token('--tg-text-weak'),
    line: token('--tg-line'),
    surface: token('--tg-surface'),
  }
}
