import { describe, expect, it } from 'vitest'

import { lookOf } from './look'
import { timeChart } from './timeChart'

const look = lookOf((name) => name)
const chart = (kind: 'bars' | 'lines', names: string[]) =>
  timeChart({
    kind,
    axis: ['a', 'b'],
    titles: ['day a', 'day <b>'],
    series: names.map((name, index) => ({ name, values: [index, null], colour: name === 'failed' ? 'bad' : undefined })),
    format: (value) => `${value} ms`,
    look,
  }) as Record<string, any> // eslint-disable-line @typescript-eslint/no-explicit-any

describe('timeChart', () => {
  it('stacks bars, and does not stack lines', () => {
    expect(chart('bars', ['x', 'y']).series.map((one: { stack?: string }) => one.stack)).toEqual(['all', 'all'])
    expect(chart('lines', ['x']).series[0].stack).toBeUndefined()
  })

  it('has a legend only where there is something to tell apart, and a colour for what failed', () => {
    expect(chart('bars', ['x']).legend.show).toBe(false)
    expect(chart('bars', ['x', 'failed']).legend.show).toBe(true)
    expect(chart('bars', ['x', 'failed']).color).toEqual(['--tg-chart-1', '--tg-chart-bad'])
  })

  it('has dots on a line where one value would not be seen without', () => {
    const dots = (values: (number | null)[]) => {
      const option = timeChart({ kind: 'lines', axis: [], titles: [], series: [{ name: 'x', values }], format: String, look })
      return (option as Record<string, any>).series[0].showSymbol // eslint-disable-line @typescript-eslint/no-explicit-any
    }
    expect([[5], [null, 5, null], [1, 2, null, 0]].map(dots)).toEqual([true, true, true])
    expect([[], [null], [1, 2, null, 3, 4]].map(dots)).toEqual([false, false, false])
  })

  it('writes numbers as the page does, and names of people as text', () => {
    const option = chart('bars', ['<i>x'])
    expect(option.yAxis.axisLabel.formatter(5)).toBe('5 ms')
    const text = option.tooltip.formatter([
      { dataIndex: 1, seriesName: '<i>x', value: 5 },
      { dataIndex: 1, seriesName: 'none', value: null },
    ])
    expect(text).toContain('day &#60;b&#62;')
    expect(text).toContain('&#60;i&#62;x')
    expect(text).toContain('5 ms')
    expect(text).not.toContain('none')
  })
})
