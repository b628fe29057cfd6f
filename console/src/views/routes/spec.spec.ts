import { describe, expect, it } from 'vitest'

import type { RouteSpec, TargetHealth } from '@/api/generated'

import { condition, shares, tiersOf, wayExplained, wayOf } from './spec'

const spec = (...endpoints: string[]): RouteSpec => ({ target: endpoints.map((endpoint) => ({ endpoint, model: 'm' })) })
const health = (closed: number, half_open: number, open: number): TargetHealth => ({
  id: 'a/m', endpoint: 'a', model: 'm', closed, half_open, open, in_flight: 0, first_content_ms: null, successes: 0, failures: 0,
}) // prettier-ignore

describe('tiers and shares', () => {
  it('puts the lowest priority first and keeps the order inside', () => {
    const targets = [{ id: 1, priority: 5 }, { id: 2 }, { id: 3, priority: 5 }, { id: 4, priority: 0 }]
    expect(tiersOf(targets).map((tier) => tier.map(({ id }) => id))).toEqual([[2, 4], [1, 3]])
  })

  it('shares by weight, and gives nothing when there is no weight', () => {
    expect(shares([90, 10, 0])).toEqual([0.9, 0.1, 0])
    expect(shares([0, 0])).toEqual([0, 0])
  })
})

describe('the way', () => {
  it('follows fallbacks to the end', () => {
    const way = wayOf('a', { ...spec('x', 'y'), fallback: 'b' }, new Map([['b', spec('z')]]), new Map([['z/m', health(1, 0, 0)]]))
    expect(way.stages.map(({ route, tiers }) => [route, tiers[0]!.map(({ endpoint, share }) => [endpoint, share])])).toEqual([
      ['a', [['x', 0.5], ['y', 0.5]]], ['b', [['z', 1]]],
    ]) // prettier-ignore
    expect(way.stages[1]!.tiers[0]![0]!.health?.closed).toBe(1)
    expect(way.loop ?? way.missing).toBeUndefined()
  })

  it('ends at a loop, at itself and at what is not there', () => {
    const others = new Map([['b', { ...spec('z'), fallback: 'c' }], ['c', { ...spec('z'), fallback: 'b' }]]) // prettier-ignore
    expect(wayOf('a', { ...spec('x'), fallback: 'b' }, others)).toMatchObject({ loop: 'b', stages: [{ route: 'a' }, { route: 'b' }, { route: 'c' }] })
    expect(wayOf('a', { ...spec('x'), fallback: 'a' }, new Map()).loop).toBe('a')
    expect(wayOf('a', { ...spec('x'), fallback: 'gone' }, new Map()).missing).toBe('gone')
  })

  it('is drawn from what control explains, too; a wildcard finds its health by the name of the route', () => {
    const target = { endpoint: 'a', model: '', tier: 2, weight: 3, share: 1, credentials: 1 }
    const way = wayExplained([{ name: 'x/*', strategy: 'weighted', max_attempts: 3, system_prompt: false, targets: [target] }], new Map([['a/x/*', health(1, 0, 0)]]))
    expect(way.stages[0]!.tiers).toEqual([[{ endpoint: 'a', model: '', share: 1, health: health(1, 0, 0) }]])
  })
})

it('says how a target does', () => {
  expect([undefined, health(0, 0, 0), health(2, 0, 0), health(1, 1, 0), health(0, 0, 1)].map(condition)).toEqual([
    'unknown', 'unknown', 'good', 'partly', 'resting',
  ]) // prettier-ignore
})
