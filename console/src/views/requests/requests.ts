/** The list of requests: what can be asked, and the trail of pages that leads to where one is. */
import type { GuardOutcome, LedgerRow } from '@/api/generated'

export const ENDS = ['success', 'failed', 'blocked', 'upstream_error', 'upstream_error_partial', 'client_gone', 'client_gone_partial', 'stopped', 'interrupted'] as const
export type End = (typeof ENDS)[number]

/** Pages that the address remembers, so that one can go back. */
const LONGEST_TRAIL = 40

/** The trail of pages is `before` of each, from the first on; the last is that of the page that is shown. */
export const trailOf = (text: string): number[] => text.split('.').map(Number).filter((one) => Number.isSafeInteger(one) && one > 0)
export const further = (trail: number[], before: number): string => [...trail, before].slice(-LONGEST_TRAIL).join('.')
export const back = (trail: number[]): string => trail.slice(0, -1).join('.')

export const totalTokens = (row: LedgerRow) =>
  row.input_tokens + row.cache_read_tokens + row.cache_write_tokens + row.output_tokens + row.reasoning_tokens

export const colourOf = (end: string) => (end === 'success' ? 'success' : end.startsWith('client_gone') ? 'warning' : 'danger') as 'success' | 'warning' | 'danger'

/** What a guard found, as ["prompt", "phone", 2]. */
export function finds(guard: GuardOutcome): ['prompt' | 'answer', string, number][] {
  const sides = ['prompt', 'answer'] as const
  return sides.flatMap((side) => Object.entries(guard[side] ?? {}).map(([kind, count]) => [side, kind, count] as ['prompt' | 'answer', string, number]))
}

export interface Attempt {
  endpoint: string
  model: string
  status: number
  error: string
  ms: number
}

export interface Bar {
  label: string
  status: string
  kind: 'failed' | 'waited' | 'relayed'
  /** Milliseconds since the first attempt. */
  start: number
  length: number
}

/** Attempts one after another, each until its first content or its failure, then the rest of the answer. */
export function waterfall(row: Pick<LedgerRow, 'duration_ms' | 'attempts'>, texts: { relayed: string }): Bar[] {
  let start = 0
  const bars: Bar[] = (row.attempts as Attempt[]).map((one) => {
    const status = one.error || String(one.status || '')
    const bar = { label: `${one.endpoint} / ${one.model}`, status, kind: one.error ? ('failed' as const) : ('waited' as const), start, length: one.ms }
    start += one.ms
    return bar
  })
  if (bars.at(-1)?.kind === 'waited' && row.duration_ms > start) {
    bars.push({ label: texts.relayed, status: '', kind: 'relayed', start, length: row.duration_ms - start })
  }
  return bars
}

/** JSON with indents; other text as it is. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), undefined, 2)
  } catch {
    return text // no JSON, or cut off in the middle
  }
}
