/** The ECharts option of an interval that narrows with its samples, and the line that it has to leave. */
import type { EChartsCoreOption } from 'echarts/core'

import type { ScorePoint } from '@/api/generated'
import type { ChartLook } from '@/charts/look'

export interface Evidence {
  points: readonly ScorePoint[]
  /** The line is drawn at minus this. */
  margin: number
  names: { mean: string; low: string; high: string; line: string; samples: string }
  format: (value: number) => string
  look: ChartLook
}

interface Hovered {
  value: [number, number]
  marker?: string
  seriesName?: string
}

/** As far as the axis goes: what the later half of the points needs, since an interval begins with all that may be. */
function reach(points: readonly ScorePoint[], margin: number): number {
  const later = points.slice(Math.floor(points.length / 2)).flatMap((one) => [Math.abs(one.low), Math.abs(one.high)])
  return Math.min(1, Math.ceil(12 * Math.max(4 * margin, ...later)) / 10)
}

export function evidenceChart({ points, margin, names, format, look }: Evidence): EChartsCoreOption {
  const [first, second] = [look.series[0]!, look.series[1]!]
  const line = (name: string, field: 'mean' | 'low' | 'high', colour: string, type: 'solid' | 'dashed') => ({
    type: 'line', name, data: points.map((one) => [one.n, one[field]]), clip: true, showSymbol: points.length === 1, animation: false,
    lineStyle: { width: 2, type, color: colour }, itemStyle: { color: colour },
  }) // prettier-ignore
  return {
    textStyle: { fontFamily: 'inherit' },
    grid: { left: 4, right: 12, top: 34, bottom: 22, containLabel: true },
    legend: { top: 0, left: 0, icon: 'roundRect', itemWidth: 12, itemHeight: 8, textStyle: { color: look.text } },
    tooltip: {
      trigger: 'axis', confine: true, backgroundColor: look.surface, borderColor: look.line, textStyle: { color: look.text, fontSize: 13 },
      formatter: (hovered: Hovered[]) => [`${names.samples}: ${hovered[0]?.value[0] ?? ''}`, ...hovered.map((one) => `${one.marker ?? ''}${one.seriesName ?? ''} <b>${format(one.value[1])}</b>`)].join('<br>'),
    },
    xAxis: { type: 'value', min: 0, max: 'dataMax', minInterval: 1, name: names.samples, nameLocation: 'middle', nameGap: 24, nameTextStyle: { color: look.text }, axisLine: { onZero: false, lineStyle: { color: look.line } }, axisLabel: { color: look.text }, splitLine: { show: false } },
    yAxis: { type: 'value', min: -reach(points, margin), max: reach(points, margin), axisLabel: { color: look.text, formatter: format }, splitLine: { lineStyle: { color: look.line } } },
    series: [
      {
        ...line(names.mean, 'mean', first, 'solid'),
        markLine: { symbol: 'none', silent: true, animation: false, data: [{ yAxis: -margin }], lineStyle: { color: look.bad, type: 'solid', width: 1 }, label: { formatter: names.line, color: look.text, position: 'insideStartBottom' } },
      },
      line(names.low, 'low', second, 'dashed'),
      line(names.high, 'high', second, 'dashed'),
    ],
  } // prettier-ignore
}
