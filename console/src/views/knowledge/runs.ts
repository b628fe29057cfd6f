/** Figures of the runs of a test set, as charts. */
import type { Figures, KnowledgeRun } from '@/api/generated'
import type { ChartLook } from '@/charts/look'
import { timeChart } from '@/charts/timeChart'

export const RUN_COLOURS = { waiting: 'info', running: 'primary', done: 'success', failed: 'danger' } as const

const CHARTS: { key: string; unit: 'percent' | 'ms'; figures: (keyof Figures)[] }[] = [
  { key: 'recall', unit: 'percent', figures: ['recall_1', 'recall_5', 'recall_10'] },
  { key: 'order', unit: 'percent', figures: ['mrr', 'ndcg_10'] },
  { key: 'latency', unit: 'ms', figures: ['p50_ms', 'p95_ms'] },
]

/** Charts by run, the oldest first; the axis says run and version of the index. Only runs with figures are given. */
export function runCharts(
  runs: KnowledgeRun[],
  name: (figure: string) => string,
  title: (run: KnowledgeRun) => string,
  formats: Record<'percent' | 'ms', (value: number) => string>,
  look: ChartLook,
) {
  const inOrder = [...runs].sort((a, b) => a.number - b.number)
  const axis = inOrder.map((one) => `${one.number} (v${one.index_number})`)
  return CHARTS.map(({ key, unit, figures }) => {
    const series = figures.map((figure) => ({ name: name(figure), values: inOrder.map((one) => one.figures?.[figure] ?? null) }))
    return {
      key,
      names: series.map((one) => one.name),
      option: timeChart({ kind: 'lines', axis, titles: inOrder.map(title), series, format: formats[unit], look, most: unit === 'percent' ? 1 : undefined }),
      rows: inOrder.map((one, at) => [title(one), ...series.map(({ values }) => (values[at] === null ? '–' : formats[unit](values[at]!)))]),
    }
  })
}
