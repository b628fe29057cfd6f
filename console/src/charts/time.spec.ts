import { describe, expect, it } from 'vitest'

import { axisLabels, before, dateIn, isZone, midnight, rangeOf, stepAt, stepOf, steps } from './time'

const NOW = Date.parse('2026-11-24T13:20:30Z')
const range = (name: string, zone = 'UTC', since = '', until = '') => {
  const found = rangeOf(name, since, until, zone, NOW)
  return [found.since.toISOString(), found.until.toISOString()]
}

describe('ranges', () => {
  it('end now; days begin at midnight of the zone', () => {
    expect(range('24h')).toEqual(['2026-11-23T14:00:00.000Z', '2026-11-24T13:20:30.000Z'])
    expect(range('7d')[0]).toBe('2026-11-18T00:00:00.000Z')
    expect(range('7d', 'Asia/Shanghai')[0]).toBe('2026-11-17T16:00:00.000Z')
    expect(range('30d', 'Asia/Kolkata')[0]).toBe('2026-10-25T18:30:00.000Z')
  })

  it('are chosen freely, and seven days if what was chosen is no time', () => {
    expect(range('custom', 'UTC', '2026-01-01', '2026-02-01')).toEqual(['2026-01-01T00:00:00.000Z', '2026-02-01T00:00:00.000Z'])
    for (const wrong of [range('custom', 'UTC', '2026-02-01', '2026-01-01'), range('custom'), range('toString'), range('')]) {
      expect(wrong[0]).toBe('2026-11-18T00:00:00.000Z')
    }
  })

  it('are never so long that their steps would fill the memory', () => {
    expect(range('custom', 'UTC', '0001-01-01', '9999-01-01')).toEqual(['2024-11-24T13:20:30.000Z', '2026-11-25T13:20:30.000Z'])
  })

  it('are compared with as much time before them, up to the same time of day', () => {
    const { since, until } = before(rangeOf('7d', '', '', 'UTC', NOW))
    expect([since.toISOString(), until.toISOString()]).toEqual(['2026-11-11T00:00:00.000Z', '2026-11-17T13:20:30.000Z'])
    expect(before(rangeOf('24h', '', '', 'UTC', NOW)).until.toISOString()).toBe('2026-11-23T13:20:30.000Z')
  })
})

describe('steps', () => {
  it('are all hours or days, whether or not anything happened', () => {
    expect(steps(rangeOf('24h', '', '', 'UTC', NOW), 'hour', 'UTC')).toHaveLength(24)
    expect(steps(rangeOf('30d', '', '', 'Asia/Shanghai', NOW), 'day', 'Asia/Shanghai')).toHaveLength(30)
    expect(stepOf(rangeOf('24h', '', '', 'UTC', NOW))).toBe('hour')
    expect(stepOf(rangeOf('7d', '', '', 'UTC', NOW))).toBe('day')
  })

  it('follow the clocks of the zone, which may leave out an hour', () => {
    const berlin = { since: new Date(midnight('2026-03-28', 'Europe/Berlin')), until: new Date(midnight('2026-03-31', 'Europe/Berlin')) }
    const days = steps(berlin, 'day', 'Europe/Berlin')
    expect(days.map((at) => dateIn(at, 'Europe/Berlin'))).toEqual(['2026-03-28', '2026-03-29', '2026-03-30'])
    expect(days[2]! - days[1]!).toBe(23 * 3_600_000)
  })

  it('find the line of a report', () => {
    expect(stepAt({ hour: '2026-11-24T08:00:00+08:00' }, 'hour', 'Asia/Shanghai')).toBe(Date.parse('2026-11-24T00:00:00Z'))
    expect(stepAt({ day: '2026-11-24' }, 'day', 'Asia/Shanghai')).toBe(Date.parse('2026-11-23T16:00:00Z'))
  })

  it('are written in the language and the zone', () => {
    const at = [Date.parse('2026-11-23T16:00:00Z')]
    expect(axisLabels(at, 'day', 'Asia/Shanghai', 'zh-CN')).toEqual(['11月24日'])
    expect(axisLabels(at, 'day', 'UTC', 'en')).toEqual(['Nov 23'])
    expect(axisLabels(at, 'hour', 'Asia/Shanghai', 'en')).toEqual(['00:00'])
  })
})

it('knows time zones', () => {
  expect([isZone('Asia/Shanghai'), isZone('Mars/Olympus'), isZone('')]).toEqual([true, false, false])
})
