import { describe, expect, it } from 'vitest'

import type { RouteSpec } from '@/api/generated'

import { canaryOf, fromSpec, fromTargets, lower, place, raise, remove, type Row, toSpec, withCanary } from './routeForm'

const shown = (rows: Row[]) => rows.map((row) => `${row.endpoint}${row.tier}`).join(' ')
const rows = () =>
  fromTargets([
    { endpoint: 'a', model: 'm', weight: 90 }, { endpoint: 'c', model: 'm', priority: 7 }, { endpoint: 'b', model: 'm', weight: 10 },
  ]) // prettier-ignore
const id = (all: Row[], endpoint: string) => all.find((row) => row.endpoint === endpoint)!.id

describe('the form of a route', () => {
  it('gives back what it was filled with; tiers lose their gaps, and empty fields are left out', () => {
    const spec: RouteSpec = {
      target: [{ endpoint: 'a', model: 'm', weight: 3, priority: 2, price: { input: '1', output: '2' } }, { endpoint: 'b', model: '', priority: 9 }],
      aliases: ['x'], fallback: 'spare', system_prompt: '', timeouts: null, strategy: 'sticky', sticky_by: 'user', shadow: { endpoint: 'c', model: 's', share: 0.1 },
    } // prettier-ignore
    expect(toSpec(fromSpec('r', spec))).toEqual({
      target: [
        { endpoint: 'a', model: 'm', weight: 3, priority: 0, price: { input: '1', output: '2' } },
        { endpoint: 'b', model: '', weight: 1, priority: 1 },
      ],
      aliases: ['x'], fallback: 'spare', strategy: 'sticky', sticky_by: 'user', shadow: { endpoint: 'c', model: 's', share: 0.1 },
    }) // prettier-ignore
  })

  it('begins with one empty target', () => {
    expect(toSpec(fromSpec(''))).toEqual({ target: [{ endpoint: '', model: '', weight: 1, priority: 0 }] })
  })
})

describe('moving targets', () => {
  it('goes up row by row, then into the tier above, then into a new one', () => {
    let now = rows()
    const c = id(now, 'c')
    expect(shown(now)).toBe('a0 b0 c1')
    const steps = [0, 1, 2, 3, 4].map(() => shown((now = raise(now, c))))
    expect(steps).toEqual(['a0 b0 c0', 'a0 c0 b0', 'c0 a0 b0', 'c0 a1 b1', 'c0 a1 b1'])
  })

  it('goes down the same way back', () => {
    let now = rows()
    const a = id(now, 'a')
    const steps = [0, 1, 2, 3, 4].map(() => shown((now = lower(now, a))))
    expect(steps).toEqual(['b0 a0 c1', 'b0 a1 c1', 'b0 c1 a1', 'b0 c1 a2', 'b0 c1 a2'])
  })

  it('is dropped before a row, at the end of a tier, or beside all tiers', () => {
    const now = rows()
    const c = id(now, 'c')
    expect(shown(place(now, c, 0, id(now, 'b')))).toBe('a0 c0 b0')
    expect(shown(place(now, id(now, 'a'), 1))).toBe('b0 c1 a1')
    expect(shown(place(now, id(now, 'a'), 2))).toBe('b0 c1 a2')
    expect(shown(place(now, c, 1, c))).toBe(shown(now))
  })

  it('closes the gap that a removed tier leaves', () => {
    const now = rows()
    expect(shown(remove(remove(now, id(now, 'a')), id(now, 'b')))).toBe('c0')
  })
})

it('a canary is the second of two targets', () => {
  const now = rows()
  expect(canaryOf(now, 0)).toEqual({ id: id(now, 'b'), share: 0.1 })
  expect(canaryOf(now, 1)).toBeUndefined()
  expect(withCanary(now, 0, 25).map((row) => row.weight)).toEqual([75, 25, 1])
})
