/** Stretches of time that people ask about, and the hours or days in them, in a time zone. */
export type Step = 'hour' | 'day'
export const PRESETS = ['24h', '7d', '30d', '90d'] as const
export type Preset = (typeof PRESETS)[number]

export interface Range {
  since: Date
  until: Date
}

const HOUR = 3_600_000
const DAY = 24 * HOUR
const LENGTHS: Record<Preset, number> = { '24h': 1, '7d': 7, '30d': 30, '90d': 90 }
/** The longest stretch; a longer one is cut at its beginning. */
const LONGEST = 731 * DAY
const isPreset = (text: string): text is Preset => (PRESETS as readonly string[]).includes(text)

/** Whether the browser knows a time zone of this name. */
export function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

/** Milliseconds that clocks of the zone are ahead of UTC at a moment. */
function offsetOf(moment: number, zone: string): number {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric',
  }) // prettier-ignore
  const part = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, Number(value)]))
  return Date.UTC(part.year!, part.month! - 1, part.day, part.hour, part.minute, part.second) - Math.floor(moment / 1000) * 1000
}

/** The date in the zone, such as 2026-11-24. */
export function dateIn(moment: number, zone: string): string {
  return new Date(moment + offsetOf(moment, zone)).toISOString().slice(0, 10)
}

/** When a date begins in the zone. */
export function midnight(date: string, zone: string): number {
  const there = Date.parse(`${date}T00:00:00Z`)
  return there - offsetOf(there - offsetOf(there, zone), zone)
}

/** The stretch of time that `range` names: a preset that ends now, or `custom` from `since` to `until`. Unknown: 7 days. */
export function rangeOf(range: string, since: string, until: string, zone: string, now: number): Range {
  const [from, to] = [Date.parse(since), Math.min(Date.parse(until), now + DAY)]
  if (range === 'custom' && from < to) return { since: new Date(Math.max(from, to - LONGEST)), until: new Date(to) }
  const preset = isPreset(range) ? range : '7d'
  if (preset === '24h') return { since: new Date(Math.ceil(now / HOUR) * HOUR - DAY), until: new Date(now) }
  const first = Date.parse(`${dateIn(now, zone)}T00:00:00Z`) - (LENGTHS[preset] - 1) * DAY
  return { since: new Date(midnight(new Date(first).toISOString().slice(0, 10), zone)), until: new Date(now) }
}

/** The stretch before one, equally long to the hour; of the days that are not over yet, up to the same time of day. */
export function before(range: Range): Range {
  const days = Math.ceil((range.until.getTime() - range.since.getTime()) / DAY)
  return { since: new Date(range.since.getTime() - days * DAY), until: new Date(range.until.getTime() - days * DAY) }
}

/** Hours for up to two days, else days. */
export const stepOf = (range: Range): Step => (range.until.getTime() - range.since.getTime() <= 2 * DAY ? 'hour' : 'day')

/** Every hour or day of the range, by the moment that it begins: those without any request, too. */
export function steps(range: Range, step: Step, zone: string): number[] {
  const found: number[] = []
  const last = range.until.getTime()
  if (step === 'hour') {
    for (let at = Math.floor(range.since.getTime() / HOUR) * HOUR; at < last; at += HOUR) found.push(at)
    return found
  }
  let date = dateIn(range.since.getTime(), zone)
  for (let at = midnight(date, zone); at < last; at = midnight(date, zone)) {
    found.push(at)
    date = new Date(Date.parse(`${date}T00:00:00Z`) + DAY).toISOString().slice(0, 10)
  }
  return found
}

/** The moment at which the hour or day of a line of a report begins. */
export function stepAt(group: Record<string, string>, step: Step, zone: string): number {
  return step === 'hour' ? Date.parse(group.hour!) : midnight(group.day!, zone)
}

/** How an axis writes the steps. */
export function axisLabels(at: number[], step: Step, zone: string, locale: string): string[] {
  const format = new Intl.DateTimeFormat(
    locale,
    step === 'hour' ? { timeZone: zone, hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } : { timeZone: zone, month: 'short', day: 'numeric' },
  )
  return at.map((moment) => format.format(moment))
}

/** How a tooltip and a table write the steps. */
export function fullLabels(at: number[], step: Step, zone: string, locale: string): string[] {
  const format = new Intl.DateTimeFormat(
    locale,
    step === 'hour'
      ? { timeZone: zone, month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }
      : { timeZone: zone, year: 'numeric', month: 'short', day: 'numeric', weekday: 'short' },
  )
  return at.map((moment) => format.format(moment))
}
