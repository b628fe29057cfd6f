import { describe, expect, it } from 'vitest'

import type { UsageSums } from '@/api/generated'

import { errorRate, overTime, stacked } from './report'
import { midnight } from './time'

const line = (group: Record<string, string>, cost_nano: number, requests = 1) => ({ group, cost_nano, requests, failed: 1 }) as UsageSums
const at = ['2026-11-22', '2026-11-23', '2026-11-24'].map((day) => midnight(day, 'Asia/Shanghai'))
const cost = (one: UsageSums) => one.cost_nano

describe('overTime', () => {
  it('has a value for each step, also where there was no request', () => {
    const lines = [line({ day: '2026-11-23' }, 5)]
    expect(overTime(lines, at, 'day', 'Asia/Shanghai', cost)).toEqual([0, 5, 0])
    expect(overTime(lines, at, 'day', 'Asia/Shanghai', errorRate, null)).toEqual([null, 1, null])
  })
})

describe('stacked', () => {
  const whole = [line({ day: '2026-11-22' }, 10), line({ day: '2026-11-23' }, 7)]
  const lines = [
    line({ day: '2026-11-22', route: 'small' }, 1),
    line({ day: '2026-11-22', route: '' }, 6),
    line({ day: '2026-11-23', route: 'small' }, 2),
    line({ day: '2026-11-23', route: '' }, 5),
  ]
  const texts = { others: 'Others', none: 'none' }

  it('begins with the greatest, names what has no name, and ends with the rest', () => {
    expect(stacked(lines, whole, 'route', at, 'day', 'Asia/Shanghai', cost, texts)).toEqual([
      { name: 'none', values: [6, 5, 0] },
      { name: 'small', values: [1, 2, 0] },
      { name: 'Others', values: [3, 0, 0], colour: 'rest' },
    ])
  })

  it('has no rest where nothing is left', () => {
    const all = [line({ day: '2026-11-22', route: 'x' }, 10), line({ day: '2026-11-23', route: 'x' }, 7)]
    expect(stacked(all, whole, 'route', at, 'day', 'Asia/Shanghai', cost, texts).map((one) => one.name)).toEqual(['x'])
  })
})
