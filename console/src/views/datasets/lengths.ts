/** What a histogram of token lengths shows, and what a limit cuts. */
import type { TokenLengths } from '@/api/generated'

const BARS = 48

export interface LengthBar {
  /** Longest of it; null: everything beyond the bar before. */
  to: number | null
  within: number
  cut: number
}

/** Rows that are longer than a limit. Exact where the limit is a multiple of the bins' width. */
export const cutBy = (lengths: TokenLengths, limit: number) => lengths.bins.reduce((sum, bin) => sum + (bin.to > limit ? bin.rows : 0), 0)

/** The next limit that a bin ends at. */
export const onABin = (lengths: TokenLengths, limit: number) => Math.max(lengths.width, Math.ceil(limit / lengths.width) * lengths.width)

/** Bars of one width; a long tail becomes the last one, so that the others can be told apart. */
export function barsOf(lengths: TokenLengths, limit: number): LengthBar[] {
  const end = Math.min(lengths.max, Math.max(4 * lengths.p95, Math.ceil(1.25 * limit)))
  const step = Math.max(1, Math.ceil(end / BARS / lengths.width)) * lengths.width
  const count = Math.ceil(end / step)
  const bars: LengthBar[] = Array.from({ length: count }, (_, index) => ({ to: (index + 1) * step, within: 0, cut: 0 }))
  if (lengths.max > count * step) bars.push({ to: null, within: 0, cut: 0 })
  for (const bin of lengths.bins) {
    const bar = bars[Math.min(bars.length - 1, Math.ceil(bin.to / step) - 1)]!
    bar[bin.to > limit ? 'cut' : 'within'] += bin.rows
  }
  return bars
}
