import { describe, expect, it } from 'vitest'

import { evidenceChart } from './evidence'
import { lookOf } from './look'

const names = { mean: 'mean', low: 'low', high: 'high', line: 'may be lower by 5 %', samples: 'samples' }
const points = [
  { n: 20, mean: 0.1, low: -0.4, high: 0.6 },
  { n: 40, mean: 0.05, low: -0.04, high: 0.2 },
]
const chart = (some = points) => evidenceChart({ points: some, margin: 0.05, names, format: (value) => value.toFixed(2), look: lookOf((name) => name) }) as Record<string, any> // eslint-disable-line @typescript-eslint/no-explicit-any

describe('evidenceChart', () => {
  it('draws the mean and both bounds over the samples, and the line below zero', () => {
    expect(chart().series.map((one: { name: string; data: number[][] }) => [one.name, one.data])).toEqual([
      ['mean', [[20, 0.1], [40, 0.05]]],
      ['low', [[20, -0.4], [40, -0.04]]],
      ['high', [[20, 0.6], [40, 0.2]]],
    ]) // prettier-ignore
    expect(chart().series[0].markLine.data).toEqual([{ yAxis: -0.05 }])
  })

  it('shows a single point, too', () => {
    expect(chart(points.slice(0, 1)).series[0].showSymbol).toBe(true)
    expect(chart().series[0].showSymbol).toBe(false)
  })

  it('goes as far as the later points need, and shows the line', () => {
    const reach = (some: typeof points) => chart(some).yAxis.max
    expect(reach(points)).toBe(0.3)
    expect(reach([{ n: 1, mean: 1, low: -1, high: 1 }])).toBe(1)
    expect(reach([...points, ...points].map((one) => ({ ...one, low: -0.01, high: 0.01 })))).toBe(0.3)
  })

  it('says the figures under the pointer', () => {
    const said = chart().tooltip.formatter([{ value: [40, 0.05], seriesName: 'mean' }, { value: [40, -0.04], seriesName: 'low' }])
    expect(said).toBe('samples: 40<br>mean <b>0.05</b><br>low <b>-0.04</b>')
  })
})
