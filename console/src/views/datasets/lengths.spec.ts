import { describe, expect, it } from 'vitest'

import type { TokenLengths } from '@/api/generated'
import { barsOf, cutBy, onABin } from '@/views/datasets/lengths'

const of = (bins: [number, number][], width = 1): TokenLengths => {
  const all = bins.flatMap(([to, rows]) => Array<number>(rows).fill(to))
  const at = (share: number) => all[Math.min(all.length - 1, Math.floor(all.length * share))]!
  return { rows: all.length, total: 0, min: at(0), p50: at(0.5), p95: at(0.95), max: all.at(-1)!, width, bins: bins.map(([to, rows]) => ({ to, rows })) }
}

describe('lengths', () => {
  it('counts what a limit cuts, and not what is just as long', () => {
    const lengths = of([[10, 3], [20, 2], [21, 1]])
    expect([9, 10, 19, 20, 21, 5000].map((limit) => cutBy(lengths, limit))).toEqual([6, 3, 3, 1, 0, 0])
  })
  it('moves a limit to the end of a bin, so that what is said is exact', () => {
    expect(onABin(of([[32, 1]], 16), 33)).toBe(48)
    expect(onABin(of([[32, 1]], 16), 0)).toBe(16)
    expect(onABin(of([[32, 1]]), 33)).toBe(33)
  })
  it('puts every row into one bar, with a long tail in the last', () => {
    const lengths = of([[100, 60], [200, 39], [30_000, 1]])
    const bars = barsOf(lengths, 150)
    expect(bars.reduce((sum, bar) => sum + bar.within + bar.cut, 0)).toBe(100)
    expect(bars.reduce((sum, bar) => sum + bar.cut, 0)).toBe(40)
    expect(bars.at(-1)).toEqual({ to: null, within: 0, cut: 1 })
    expect(bars.length).toBeLessThan(50)
  })
  it('has a bar for a single row of one token', () => {
    expect(barsOf(of([[1, 1]]), 2048)).toEqual([{ to: 1, within: 1, cut: 0 }])
  })
})
