/** Lines of a usage report as the series of a chart. */
import type { UsageSums } from '@/api/generated'
import { type Step, stepAt } from '@/charts/time'
import type { TimeSeries } from '@/charts/timeChart'

type Value = (line: UsageSums) => number | null

/** A value for each step: `empty` where the report has no line, which is where there was no request. */
export function overTime(lines: UsageSums[], at: number[], step: Step, zone: string, value: Value, empty: number | null = 0): (number | null)[] {
  const found = new Map(lines.map((line) => [stepAt(line.group, step, zone), value(line)]))
  return at.map((moment) => found.get(moment) ?? empty)
}

/** A series for each value of a dimension, the greatest first, and what is left of the whole as one more. */
export function stacked(
  lines: UsageSums[],
  whole: UsageSums[],
  dimension: string,
  at: number[],
  step: Step,
  zone: string,
  value: (line: UsageSums) => number,
  texts: { others: string; none: string },
): TimeSeries[] {
  const groups = new Map<string, UsageSums[]>()
  for (const line of lines) {
    const name = line.group[dimension] ?? ''
    groups.set(name, [...(groups.get(name) ?? []), line])
  }
  const sum = (some: UsageSums[]) => some.reduce((total, line) => total + value(line), 0)
  const found: TimeSeries[] = [...groups]
    .sort((a, b) => sum(b[1]) - sum(a[1]))
    .map(([name, own]) => ({ name: name || texts.none, values: overTime(own, at, step, zone, value) }))
  const rest = overTime(whole, at, step, zone, value).map((all, index) => all! - found.reduce((total, one) => total + one.values[index]!, 0))
  return rest.some((left) => left > 0) ? [...found, { name: texts.others, values: rest, colour: 'rest' }] : found
}

/** Part of the requests that failed; null where there was none. */
export const errorRate = (line: Pick<UsageSums, 'requests' | 'failed'>): number | null => (line.requests ? line.failed / line.requests : null)
