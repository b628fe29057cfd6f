/** What can be asked about usage: dimensions, measures, and the question that an address stands for. */
import type { UsageSums } from '@/api/generated'
import { type Range, type Step, isZone, rangeOf, stepOf } from '@/charts/time'

export const DIMENSIONS = ['route', 'key', 'owner', 'team', 'endpoint', 'upstream_model', 'operation'] as const
export type Dimension = (typeof DIMENSIONS)[number]
export const MEASURES = ['cost', 'requests', 'tokens', 'failed'] as const
export type Measure = (typeof MEASURES)[number]
export const TOPS = [5, 8, 20, 100] as const

export const valueOf: Record<Measure, (line: UsageSums) => number> = {
  cost: (line) => line.cost_nano,
  requests: (line) => line.requests,
  tokens: (line) => line.total_tokens,
  failed: (line) => line.failed,
}

/** Series of a chart: more could not be told apart. */
export const MOST_SERIES = 8
/** The longest time for which hours are shown; the API gives at most 10,000 lines. */
const MOST_HOURS = 14 * 86_400_000

export const ownZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'

export type Filters = Record<Dimension, string>
export const NO_FILTERS = Object.fromEntries(DIMENSIONS.map((name) => [name, ''])) as Filters
/** Everything that the address of the page may hold, and what it means where it does not. */
export const DEFAULTS = { ...NO_FILTERS, range: '7d', since: '', until: '', zone: '', by: 'route', measure: 'cost', step: '', top: '20' }
export type Query = Record<keyof typeof DEFAULTS, string>

export interface Question {
  range: Range
  zone: string
  step: Step
  hours: boolean
  by: Dimension
  measure: Measure
  top: number
  filters: Partial<Filters>
}

/** The question; what the address says wrong counts as not said. */
export function questionOf(query: Query, now = Date.now()): Question {
  const zone = isZone(query.zone) ? query.zone : ownZone()
  const range = rangeOf(query.range, query.since, query.until, zone, now)
  const hours = range.until.getTime() - range.since.getTime() <= MOST_HOURS
  return {
    range,
    zone,
    hours,
    step: query.step === 'day' ? 'day' : query.step === 'hour' && hours ? 'hour' : stepOf(range),
    by: DIMENSIONS.find((one) => one === query.by) ?? 'route',
    measure: MEASURES.find((one) => one === query.measure) ?? 'cost',
    top: TOPS.find((one) => String(one) === query.top) ?? 20,
    filters: Object.fromEntries(DIMENSIONS.filter((name) => query[name]).map((name) => [name, query[name]])),
  }
}

/** What the API is asked with. */
export const asked = (question: Pick<Question, 'range' | 'zone' | 'filters'>) => ({
  since: question.range.since.toISOString(),
  until: question.range.until.toISOString(),
  timezone: question.zone,
  ...question.filters,
})
