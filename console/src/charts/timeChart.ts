/** The ECharts option of numbers over time: bars that stand on each other, or lines. */
import type { EChartsCoreOption } from 'echarts/core'

import type { ChartLook } from '@/charts/look'

export interface TimeSeries {
  name: string
  /** One for each step; null: nothing to say. */
  values: (number | null)[]
  /** Its place in the look's series unless it has a meaning of its own. */
  colour?: 'rest' | 'bad'
}

export interface TimeChart {
  kind: 'bars' | 'lines'
  axis: string[]
  /** Of each step, for the tooltip. */
  titles: string[]
  series: TimeSeries[]
  format: (value: number) => string
  look: ChartLook
  /** Lines go on over steps with nothing to say: a figure that is measured now and then. */
  connect?: boolean
  /** A line across the axis at one of its steps. */
  mark?: { at: number; name: string }
  /** Where the axis ends; as the values want it unless set. */
  most?: number
}

const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)

/** A value with nothing on either side: a line has two ends, so without a dot it would not be seen. */
const standsAlone = (value: number | null, index: number, all: (number | null)[]) => value !== null && (all[index - 1] ?? null) === null && (all[index + 1] ?? null) === null

const lineAt = (mark: { at: number; name: string }, look: ChartLook) => ({
  symbol: 'none', silent: true, animation: false, data: [{ xAxis: mark.at }], lineStyle: { color: look.text, type: 'dashed' },
  label: { formatter: mark.name, color: look.text, position: 'insideEndTop' },
}) // prettier-ignore

interface Hovered {
  dataIndex: number
  seriesName?: string
  marker?: string
  value: number | null
}

export function timeChart({ kind, axis, titles, series, format, look, connect = false, mark, most }: TimeChart): EChartsCoreOption {
  const colours = series.map((one, index) => (one.colour ? look[one.colour] : look.series[index % look.series.length]!))
  const tooltip = (hovered: Hovered[]) => {
    const lines = hovered
      .filter((one) => one.value !== null && one.value !== undefined)
      .map((one) => `${one.marker ?? ''}${escaped(one.seriesName ?? '')} <b style="float:right;margin-left:18px">${escaped(format(one.value!))}</b>`)
    return [escaped(titles[hovered[0]?.dataIndex ?? 0] ?? ''), ...lines].join('<br>')
  }
  return {
    color: colours,
    textStyle: { fontFamily: 'inherit' },
    grid: { left: 4, right: 8, top: series.length > 1 ? 34 : 12, bottom: 2, containLabel: true },
    legend: { show: series.length > 1, type: 'scroll', right: 0, pageTextStyle: { color: look.text }, pageIconColor: look.text, pageIconInactiveColor: look.line, top: 0, left: 0, itemWidth: 12, itemHeight: 8, itemGap: 14, icon: 'roundRect', textStyle: { color: look.text } },
    tooltip: { trigger: 'axis', confine: true, backgroundColor: look.surface, borderColor: look.line, textStyle: { color: look.text, fontSize: 13 }, formatter: tooltip },
    xAxis: {
      type: 'category',
      data: axis,
      boundaryGap: kind === 'bars',
      axisTick: { show: false },
      axisLine: { lineStyle: { color: look.line } },
      axisLabel: { color: look.text, hideOverlap: true },
    },
    yAxis: {
      type: 'value',
      min: 0,
      max: most,
      splitNumber: 3,
      axisLabel: { color: look.text, formatter: format },
      splitLine: { lineStyle: { color: look.line } },
    },
    series: series.map((one, index) =>
      kind === 'bars'
        ? { type: 'bar', name: one.name, data: one.values, stack: 'all', barMaxWidth: 28, animation: false, ...(mark && !index ? { markLine: lineAt(mark, look) } : {}) }
        : { type: 'line', name: one.name, data: one.values, showSymbol: one.values.some(standsAlone), lineStyle: { width: 2 }, connectNulls: connect, animation: false },
    ),
  }
}
