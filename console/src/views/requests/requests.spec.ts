import { describe, expect, it } from 'vitest'

import { back, further, pretty, trailOf, waterfall } from './requests'

describe('the trail of pages', () => {
  it('goes further and back', () => {
    expect(further(trailOf(''), 120)).toBe('120')
    expect(further(trailOf('120'), 70)).toBe('120.70')
    expect(back(trailOf('120.70'))).toBe('120')
    expect(back(trailOf('120'))).toBe('')
  })

  it('holds numbers only, and not without end', () => {
    expect(trailOf('x.-1.1e99.7')).toEqual([7])
    expect(trailOf(further(Array.from({ length: 200 }, (_, n) => n + 1), 999))).toHaveLength(40)
  })
})

describe('waterfall', () => {
  const failed = { endpoint: 'a', model: 'm', status: 503, error: 'provider_5xx', ms: 30 }
  const good = { endpoint: 'b', model: 'n', status: 200, error: '', ms: 50 }

  it('has the attempts one after another, then what was relayed', () => {
    expect(waterfall({ duration_ms: 200, attempts: [failed, good] }, { relayed: 'answer' })).toEqual([
      { label: 'a / m', status: 'provider_5xx', kind: 'failed', start: 0, length: 30 },
      { label: 'b / n', status: '200', kind: 'waited', start: 30, length: 50 },
      { label: 'answer', status: '', kind: 'relayed', start: 80, length: 120 },
    ])
  })

  it('relays nothing after a failure, and nothing without an attempt', () => {
    expect(waterfall({ duration_ms: 200, attempts: [failed] }, { relayed: 'answer' })).toHaveLength(1)
    expect(waterfall({ duration_ms: 200, attempts: [] }, { relayed: 'answer' })).toEqual([])
  })
})

it('writes JSON with indents, and leaves other text alone', () => {
  expect(pretty('{"a":[1]}')).toBe('{\n  "a": [\n    1\n  ]\n}')
  expect(pretty('{"a":[1')).toBe('{"a":[1')
})
